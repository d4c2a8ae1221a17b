"""Which packages are in a Debian tree, from dpkg's status and apt's lists; no package tool is called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

from cofferdam.cache import file_digest
from cofferdam.errors import BuildError

RECORD = "packages.json"
"""File of a stage's directory that says what is in its tree."""


_RELEASE_FIELDS = ("Origin", "Suite", "Codename", "Version", "Date")


class Package(BaseModel):
    """One installed package; `sha256` is that of its .deb file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    architecture: str
    source: str
    sha256: str


class Archive(BaseModel):
    """A suite that packages came from, in the state of `date`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    suite: str
    codename: str
    version: str
    date: str


class Contents(BaseModel):
    """What is in a Debian tree, and the suites that it came from; in one order, whoever found them and where.

    apt names its lists after the mirror, and images hold these lists: in apt's order they were not the same for everyone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    packages: list[Package]
    archives: list[Archive]

    @field_validator("packages")
    @classmethod
    def _packages_in_order(cls, found: list[Package]) -> list[Package]:
        return sorted(found, key=lambda each: (each.name, each.architecture))

    @field_validator("archives")
    @classmethod
    def _archives_in_order(cls, found: list[Archive]) -> list[Archive]:
        return sorted(found, key=lambda each: (each.codename, each.suite))


def paragraphs(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Paragraphs of a Debian control file; of a field with several lines only the first one."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields


def installed(status: Path, lists: Path) -> list[Package]:
    """The installed packages, by name.

    Args:
        status: dpkg's status file.
        lists: directory of apt's lists, from which the packages were installed.

    Raises:
        BuildError: a package is in none of the lists, so nobody knows what it is.
    """
    known = {(fields["Package"], fields["Version"], fields["Architecture"]): fields for fields in listed(lists)}
    result = []
    with status.open(encoding="utf-8") as source:
        for fields in paragraphs(source):
            if fields.get("Status") != "install ok installed":
                continue
            key = fields["Package"], fields["Version"], fields["Architecture"]
            if key not in known:
                raise BuildError(
                    f"package {key[0]} {key[1]} is in no list of the archive: its checksum is unknown",
                    hint="Run `inv build-vm --refresh`.",
                )
            result.append(package_of(fields, known[key]["SHA256"]))
    return sorted(result, key=lambda package: package.name)


def extracted(directory: Path, lists: Path) -> list[Package]:
    """The packages whose files are in a directory, by name; for trees that packages are only unpacked into.

    Raises:
        BuildError: a package is in none of the lists, so nobody knows what it is.
    """
    known = {fields["SHA256"]: fields for fields in listed(lists)}
    result = []
    for path in directory.glob("*.deb"):
        sha256 = file_digest(path)
        if sha256 not in known:
            raise BuildError(f"package {path.name} is in no list of the archive", hint="Run the command again.")
        result.append(package_of(known[sha256], sha256))
    return sorted(result, key=lambda package: package.name)


def listed(lists: Path) -> Iterator[dict[str, str]]:
    """What the suites offer: a paragraph for each package in apt's lists."""
    for path in sorted(lists.glob("*_Packages")):
        with path.open(encoding="utf-8") as source:
            yield from paragraphs(source)


def recorded(stage: Path) -> Contents | None:
    """What a stage says is in its tree; none from stages of earlier versions, which said nothing."""
    path = stage / RECORD
    return Contents.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


def package_of(fields: dict[str, str], sha256: str) -> Package:
    """The package of a paragraph of dpkg's status or apt's lists, and the checksum of its file."""
    origin = fields.get("Source", fields["Package"]).split(" ")[0]
    return Package(
        name=fields["Package"], version=fields["Version"], architecture=fields["Architecture"], source=origin, sha256=sha256
    )


def archives(lists: Path) -> list[Archive]:
    """The suites whose lists are in the directory."""
    result = []
    for path in sorted(lists.glob("*Release")):
        text = path.read_text(encoding="utf-8").replace("-----BEGIN PGP SIGNED MESSAGE-----", "").lstrip()
        body = text.partition("\n\n")[2] if text.startswith("Hash:") else text
        fields = next(paragraphs(body.splitlines()), {})
        result.append(Archive.model_validate({name.lower(): fields.get(name, "") for name in _RELEASE_FIELDS}))
    return result
