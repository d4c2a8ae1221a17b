"""What is in an image, for bills of materials: one list, whatever the format it is then written in."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass

from packageurl import PackageURL

from cofferdam.cache import file_digest
from cofferdam.image.model import ROOT, Image, Ingredients, Manifest
from cofferdam.kernel.fragments import fragment_paths
from cofferdam.paths import ROOT as PROJECT
from cofferdam.profile import load_profile
from cofferdam.release.licences import Licence, package_licence
from cofferdam.release.purl import deb_url

_OWN = Licence("Apache-2.0", copyright="The Cofferdam authors")
_LINUX = Licence("GPL-2.0-only WITH Linux-syscall-note")


@dataclass(frozen=True)
class Item:
    """Something that an image is made of; `facts` are what has no field of its own in a bill of materials."""

    ref: str
    name: str
    version: str
    kind: str
    sha256: str
    licence: Licence
    purl: PackageURL | None = None
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Inventory:
    """An image and what it is made of."""

    image: Item
    items: list[Item]


def inventory(image: Image, ingredients: Ingredients) -> Inventory:
    """What is in an image: packages, guest programs, kernel, and the fragments of its configuration."""
    manifest = Manifest.model_validate_json(image.manifest.read_text(encoding="utf-8"))
    copyrights = json.loads(image.copyrights.read_text(encoding="utf-8")) if image.copyrights else {}
    version, suite = _version("pyproject.toml"), manifest.root.suite
    # It is under the licences of all that is in it; the project's own is not one for the whole.
    whole = Item("image", f"cofferdam-{manifest.profile}", version, "image", manifest.files[ROOT].sha256, Licence())
    packages = [
        Item(
            ref=f"deb-{each.name}",
            name=each.name,
            version=each.version,
            kind="package",
            sha256=each.sha256,
            licence=package_licence(each, copyrights, manifest.packages),
            purl=deb_url(each, suite),
            facts=(("source", each.source),),
        )
        for each in manifest.packages
    ]
    return Inventory(whole, [*packages, _guest(), _kernel(manifest, ingredients), *_fragments(manifest.profile)])


def _guest() -> Item:
    version = _version("vm/guest/pyproject.toml")
    # The root image's checksum covers its files; it has no file of its own.
    purl = PackageURL("generic", "cofferdam", "cofferdam-guest", version)
    return Item("guest", "cofferdam-guest", version, "own", "", _OWN, purl)


def _kernel(manifest: Manifest, ingredients: Ingredients) -> Item:
    (package,) = ingredients.kernel.packages
    facts = (
        ("source", f"{package.name} {package.version}"),
        ("source-sha256", package.sha256),
        ("config-sha256", manifest.kernel.config_sha256),
    )
    purl = deb_url(package, manifest.kernel.source_suite)
    return Item("kernel", "linux", manifest.kernel.version, "kernel", manifest.files["vmlinuz"].sha256, _LINUX, purl, facts)


def _fragments(profile: str) -> list[Item]:
    paths = fragment_paths(load_profile(profile).kernel.fragments)
    names = {path: path.relative_to(PROJECT).as_posix() for path in paths}
    return [Item(f"fragment-{path.stem}", name, "", "fragment", file_digest(path), _OWN) for path, name in names.items()]


def _version(project: str) -> str:
    return str(tomllib.loads((PROJECT / project).read_text(encoding="utf-8"))["project"]["version"])
