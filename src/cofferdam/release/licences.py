"""Licences and copyrights of Debian packages, from their copyright files: machine-readable ones by name, others as a text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cyclonedx.spdx import is_supported_id
from debian.copyright import Copyright, MachineReadableFormatError, NotMachineReadableError

from cofferdam.tools.packages import Package

# It tells of what it puts right by itself.
logging.getLogger("debian.copyright").setLevel(logging.ERROR)

_SPDX = {
    "expat": "MIT",
    "mit/x11": "MIT",
    "bsd-2-clauses": "BSD-2-Clause",
    "bsd-3-clauses": "BSD-3-Clause",
    "psf-2": "PSF-2.0",
    "python": "PSF-2.0",
    "zlib/libpng": "Zlib",
    "curl": "curl",
    "cc0": "CC0-1.0",
    "artistic": "Artistic-1.0",
    "openssl": "OpenSSL",
    "bsl-1": "BSL-1.0",
}
"""Names that Debian uses for licences which SPDX calls something else; small letters."""

_PARTS = re.compile(r"\s*,\s*(?:(?:and|or)\s+)?|\s+(?:and|or)\s+", re.IGNORECASE)
"""What stands between the names of several licences."""

_GNU = re.compile(r"(a?gpl|lgpl|gfdl)[-v]*(\d)(\.\d)?(?:\.0)?(\+|-or-later|-only)?", re.IGNORECASE)


@dataclass(frozen=True)
class Licence:
    """What is known of a package's licence.

    Attributes:
        expression: in SPDX's language; empty when nothing is known.
        texts: of the licences in it that SPDX has no name for, by their `LicenseRef-…`.
        copyright: who holds it, a line each; empty when it is only in a text.
    """

    expression: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    copyright: str = ""


def package_licence(package: Package, copyrights: Mapping[str, str], packages: Iterable[Package]) -> Licence:
    """The licence of a package; of one without a file of its own that of another package of the same source."""
    siblings = [package.name, *sorted(each.name for each in packages if each.source == package.source)]
    owner = next((name for name in siblings if name in copyrights), None)
    return read_licence(owner, copyrights[owner]) if owner is not None else Licence()


def read_licence(name: str, text: str) -> Licence:
    """What a copyright file says.

    Args:
        name: package's name, which licences without a name of SPDX's are called after.
        text: the file.
    """
    try:
        parsed = Copyright(text.splitlines(keepends=True), strict=False)
        return _machine_readable(name, parsed)
    except (NotMachineReadableError, MachineReadableFormatError, ValueError, TypeError, AttributeError):
        reference = _reference(name, "copyright")
        return Licence(reference, {reference: text})


def _machine_readable(name: str, parsed: Any) -> Licence:
    paragraphs = [each for each in parsed.all_files_paragraphs() if each.license is not None]
    if not paragraphs:
        raise ValueError("no files")
    known = {each.license.synopsis: each.license.text or "" for each in parsed.all_license_paragraphs() if each.license}
    expressions, holders = set(), set()
    texts: dict[str, dict[str, None]] = {}
    for each in paragraphs:
        expression, unknown = to_spdx(name, each.license.synopsis)
        expressions.add(f"({expression})" if " OR " in expression else expression)
        for reference, label in unknown.items():
            # Several files may be in the public domain, each by words of its own: all of them are kept.
            texts.setdefault(reference, {})[each.license.text or _text(label, known)] = None
        holders |= {line.strip() for line in (each.copyright or "").splitlines() if line.strip()}
    whole = {reference: "\n\n".join(found) for reference, found in sorted(texts.items())}
    return Licence(" AND ".join(sorted(expressions)), whole, "\n".join(sorted(holders)))


def _text(label: str, known: Mapping[str, str]) -> str:
    """The text of a licence; of several that could not be told apart, that of each one that has a text; else the name itself."""
    if label in known:
        return known[label] or label
    named = [each for each in _PARTS.split(label) if known.get(each)]
    return "\n\n".join([label, *(f"{each}:\n{known[each]}" for each in named)])


def to_spdx(package: str, synopsis: str) -> tuple[str, dict[str, str]]:
    """Debian's short name of a licence, or several joined by `and` or `or`, in SPDX's language.

    Returns:
        The expression, and what Debian calls each `LicenseRef-…` in it.
    """
    words = re.split(r"\s+(and|or)\s+", " ".join(synopsis.split()), flags=re.IGNORECASE)
    names, operators = words[::2], {word.upper() for word in words[1::2]}
    # With both operators, or a comma, the order in which they bind is for people to read.
    if len(operators) > 1 or "," in synopsis or any(" " in name for name in names):
        names, operators = [synopsis], set()
    ids = {name: _spdx_id(name) for name in names}
    unknown = {_reference(package, name): name for name, found in ids.items() if found is None}
    parts = [found or _reference(package, name) for name, found in ids.items()]
    return f" {next(iter(operators), 'AND')} ".join(dict.fromkeys(parts)), unknown


def _spdx_id(name: str) -> str | None:
    if match := _GNU.fullmatch(name):
        family, major, minor, later = match.groups()
        candidate = f"{family.upper()}-{major}{minor or '.0'}-{'or-later' if later in ('+', '-or-later') else 'only'}"
    else:
        candidate = _SPDX.get(name.lower(), name)
    if is_supported_id(candidate):
        return candidate
    return next((each for each in (candidate.upper(), candidate.title().replace("Bsd", "BSD")) if is_supported_id(each)), None)


def _reference(package: str, name: str) -> str:
    # `GPL-2 with …` and `GPL-2+ with …` are two licences.
    words = f"{package}-{name}".replace("+", "-plus")
    return "LicenseRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-")
