"""Audit of a final kernel configuration: all that was requested is there, nothing refused is, Docker's needs are met.

The build's own tools drop an option silently when something that it depends on is missing; here that is an error.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cofferdam.errors import BuildError
from cofferdam.kernel import docker_check
from cofferdam.kernel.fragments import FRAGMENT_DIR, UNSET, Option

REFUSED = FRAGMENT_DIR / "refused.toml"
ACCEPTED = FRAGMENT_DIR / "accepted.toml"

Check = Literal["requested", "refused", "docker"]
Explain = Callable[[str], str]
"""Says of an option what it depends on; one or more lines, or an empty text."""


class AuditError(BuildError):
    """The configuration is not what the project asks for; or one of the lists it is judged by is malformed."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_M = TypeVar("_M", bound=_Model)


class Refused(_Model):
    """`refused.toml`: options (shell patterns, without `CONFIG_`) that must not be present, each with the reason."""

    version: Literal[1]
    options: dict[str, str] = Field(min_length=1)


class Accepted(_Model):
    """One row of `accepted.toml`: options for which a check may fail, and why."""

    check: Check
    options: list[str] = Field(min_length=1)
    reason: str = Field(min_length=20)
    fragment: str | None = Field(default=None, description="the row holds only where this fragment is part of the profile")


class AcceptedList(_Model):
    """`accepted.toml`."""

    version: Literal[1]
    accepted: list[Accepted]


@dataclass(frozen=True)
class Lists:
    """What a configuration is judged by, besides the options it was made from."""

    refused: Mapping[str, str]
    accepted: tuple[Accepted, ...] = ()

    @classmethod
    def load(cls, refused: Path = REFUSED, accepted: Path = ACCEPTED) -> Lists:
        """Read both files.

        Raises:
            AuditError: one is missing, is no TOML, or has an unknown key.
        """
        return cls(_load(refused, Refused).options, tuple(_load(accepted, AcceptedList).accepted))


@dataclass(frozen=True)
class Finding:
    """One failed check. Those that only say that the lists are out of date with this source are not fatal."""

    check: Check | Literal["stale", "unknown"]
    option: str
    message: str

    @property
    def fatal(self) -> bool:
        """Whether the build must stop."""
        return self.check in get_args(Check)


def audit(
    config: Mapping[str, str],
    requested: Iterable[Option],
    lists: Lists,
    fragments: Iterable[str],
    explain: Explain = lambda _: "",
) -> list[Finding]:
    """Everything that is wrong with a configuration; empty when nothing is.

    Args:
        config: the final configuration by option name, see `parse_config`.
        requested: what it was made from.
        lists: refused options and accepted exceptions. An exception that is not needed is a finding as well.
        fragments: stems of the fragments in use.
        explain: asked only for options that are missing.
    """
    findings = [*_requested(config, requested, explain), *_refused(config, lists.refused), *_docker(config, explain)]
    active = set(fragments)
    excused = {
        (row.check, option) for row in lists.accepted if row.fragment is None or row.fragment in active for option in row.options
    }
    stale = excused - {(finding.check, finding.option) for finding in findings}
    open_findings = [finding for finding in findings if (finding.check, finding.option) not in excused]
    return open_findings + [
        Finding("stale", option, f"CONFIG_{option}: the accepted exception for the check `{check}` is not needed any more")
        for check, option in sorted(stale)
    ]


def unknown_refusals(refused: Mapping[str, str], known: Collection[str]) -> list[Finding]:
    """Refused patterns that match no option the source knows: a renamed option would pass unseen.

    Args:
        refused: patterns with their reasons.
        known: names of all options of the source.
    """
    return [
        Finding("unknown", pattern, f"CONFIG_{pattern}: refused, but this source has no such option: renamed or removed?")
        for pattern in refused
        if not fnmatch.filter(known, pattern)
    ]


def require_clean(findings: Iterable[Finding], config_path: Path) -> None:
    """Raise one error that lists the findings.

    Raises:
        AuditError: there is at least one.
    """
    messages = [finding.message for finding in findings]
    if messages:
        raise AuditError(
            f"the kernel configuration {config_path} fails {len(messages)} check(s):\n" + "\n".join(messages),
            hint=f"Correct the fragments in {FRAGMENT_DIR}, or accept the exception with its reason in {ACCEPTED.name}.",
        )


def _requested(config: Mapping[str, str], requested: Iterable[Option], explain: Explain) -> Iterable[Finding]:
    for option in requested:
        actual = config.get(option.name, UNSET)
        if actual != option.value:
            text = f"CONFIG_{option.name}: {option.origin} asks for {option.value}, the final configuration has {actual}"
            yield Finding("requested", option.name, _with_reason(text, explain(option.name)))


def _refused(config: Mapping[str, str], refused: Mapping[str, str]) -> Iterable[Finding]:
    for name, value in sorted(config.items()):
        for pattern, reason in refused.items():
            if value not in (UNSET, '""') and fnmatch.fnmatchcase(name, pattern):
                yield Finding("refused", name, f"CONFIG_{name}={value} is present but refused: {reason}")


def _docker(config: Mapping[str, str], explain: Explain) -> Iterable[Finding]:
    for name, feature in docker_check.missing(config).items():
        text = f"CONFIG_{name}: missing, Docker looks for it ({feature})"
        yield Finding("docker", name, _with_reason(text, explain(name)))


def _with_reason(text: str, reason: str) -> str:
    return "\n".join([text, *(f"  {line}" for line in reason.splitlines())])


def _load(path: Path, model: type[_M]) -> _M:
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise AuditError(f"{path}: {error}", hint="Correct the file.") from error
