"""Package URLs: one name for a Debian package in bills of materials and provenance."""

from __future__ import annotations

from packageurl import PackageURL

from cofferdam.tools.packages import Package


def deb_purl(package: Package, suite: str = "") -> str:
    """The package URL of a Debian package."""
    return deb_url(package, suite).to_string()


def deb_url(package: Package, suite: str = "") -> PackageURL:
    """The package URL of a Debian package, as an object."""
    qualifiers = {"arch": package.architecture, **({"distro": suite} if suite else {})}
    return PackageURL("deb", "debian", package.name, package.version, qualifiers)
