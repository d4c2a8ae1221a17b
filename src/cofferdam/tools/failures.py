"""What usually goes wrong while packages are fetched and images are made: from a program's last words to one clear sentence."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.errors import BuildError
from cofferdam.run import CommandError


@dataclass(frozen=True)
class Failure:
    """A pattern in a program's output, what it means, and what to do. `{0}`, `{1}` … stand for the pattern's groups."""

    pattern: str
    message: str
    hint: str


_NETWORK = "Check the network, the proxy variables (http_proxy, https_proxy) and name resolution, then run the command again."
_REFRESH = "Run `inv build-vm --refresh`, which reads the package lists again."
_SUBORDINATE = (
    "Install uidmap and run `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`, "
    "or build as root; `inv doctor` tells more."
)

FAILURES = (
    Failure(
        r"No space left on device|write error: .*space",
        "the disk is full",
        "Make room, or set COFFERDAM_CACHE_HOME to a larger disk.",
    ),
    Failure(
        r"Temporary failure resolving '([^']+)'|Could not resolve '?([\w.-]+)",
        "the name {0} cannot be resolved: no network",
        _NETWORK,
    ),
    Failure(r"Could not connect to ([\w.-]+)|Unable to connect to ([\w.-]+)", "no connection to {0}", _NETWORK),
    Failure(r"Network is unreachable|Connection timed out|Connection refused", "the package archive cannot be reached", _NETWORK),
    Failure(
        r"Hash Sum mismatch|File has unexpected size",
        "a downloaded file has a wrong checksum",
        "A mirror in the middle of an update, or a proxy that changes files: wait a few minutes and run the command again.",
    ),
    Failure(
        r"(NO_PUBKEY|is not signed|couldn't be verified|BADSIG|EXPKEYSIG|OpenPGP signature verification failed)",
        "the package archive's signature is not accepted ({0})",
        "Update the package debian-archive-keyring on this host; check its clock.",
    ),
    Failure(
        r"Release file for \S+ is (not valid yet|expired)",
        "the package archive's index is {0}",
        "Check this host's clock (`date`), then run the command again.",
    ),
    Failure(
        r"Unable to locate package (\S+)", "there is no package {0} in this suite", "Correct the package list that names it."
    ),
    Failure(
        r"Package '?([\w.+-]+)'? has no installation candidate",
        "the package {0} is gone from this suite",
        "Name its successor in the package list.",
    ),
    Failure(r"404\s+Not Found|Failed to fetch \S+/([^/\s]+\.deb)", "a package of the list is no longer in the archive", _REFRESH),
    Failure(r"does not have a Release file", "the package archive does not have this suite", "Correct `suite` in the profile."),
    Failure(
        r"newuidmap|cannot find \S+ in /etc/subuid|/etc/subuid|unable to pick chroot mode|unshare: .*Operation not permitted",
        "this user has no subordinate ids, or user namespaces are forbidden here",
        _SUBORDINATE,
    ),
    Failure(
        r"Failed to load private key from (pkcs11:[^?\s]+)",
        "the token gives no key {0}",
        "Check the URI and the PIN file that it names, and that `p11-kit server` lends the right token; the log has its words.",
    ),
    Failure(
        r"key values mismatch",
        "the certificate is not that of the key",
        "Name the certificate that was made for it with --certificate FILE.",
    ),
)


def explain(text: str) -> Failure | None:
    """The first known failure that a program's output tells of, its message complete; None when it is an unknown one."""
    for failure in FAILURES:
        if match := re.search(failure.pattern, text):
            groups = [group for group in match.groups() if group] or [""]
            return Failure(failure.pattern, failure.message.format(*groups), failure.hint)
    return None


@contextmanager
def explained(what: str, log: Path | None = None) -> Iterator[None]:
    """Turn a failed command inside the block into an error that says what went wrong with `what`.

    Raises:
        BuildError: instead of the CommandError; an unknown failure keeps the command's last lines.
    """
    start = log.stat().st_size if log and log.exists() else 0
    try:
        yield
    except CommandError as error:
        known = explain(f"{error.tail}\n{_text_after(log, start)}")
        if known is None:
            raise
        raise BuildError(f"{what}: {known.message}", hint=known.hint, log=log or error.log) from error


def _text_after(log: Path | None, start: int) -> str:
    if log is None or not log.exists():
        return ""
    with log.open("rb") as source:
        source.seek(start)
        return source.read().decode(errors="replace")


def require_space(directory: Path, mebibytes: int, what: str) -> None:
    """Refuse to start what would fill the disk.

    Args:
        directory: where it will be written; it need not exist yet.
        mebibytes: space needed.
        what: name of the work, for the message.

    Raises:
        BuildError: there is less.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free // 2**20
    if free < mebibytes:
        raise BuildError(
            f"{what}: no disk space: {mebibytes} MiB are needed below {existing}, {free} MiB are free",
            hint="Make room, or set COFFERDAM_CACHE_HOME to a larger disk.",
        )
