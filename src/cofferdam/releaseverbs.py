"""What the verbs of releases do (lock, sbom, keys, verify), between `tasks.py` and the packages behind it."""

from __future__ import annotations

import os
from dataclasses import asdict
from getpass import getpass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cofferdam.cache import write_text
from cofferdam.errors import HostError, UsageError
from cofferdam.paths import ROOT
from cofferdam.progress import Progress
from cofferdam.run import CommandError, run
from cofferdam.verbs import console, show, show_json

_LONGEST_EPOCH = 11
"""Digits of a number of seconds: enough for the year 5138."""


def lock(*, update: bool = False, keep: str = "", as_json: bool = False) -> bool:
    """Compare the lock with what the suites offer; or write it anew, or keep its package files.

    Returns:
        Whether there is nothing to be done.

    Raises:
        UsageError: options that exclude each other.
    """
    from cofferdam.release import lock as locks

    if update and keep:
        raise UsageError("--update and --keep are two things", hint="Run `inv lock --update` first, then `inv lock --keep DIR`.")
    progress = Progress()
    if update:
        names = locks.update(progress)
        if as_json:
            show_json({"locked": [f"vm/lock/{name}.json" for name in names]})
        else:
            show(
                [
                    *(f"locked         vm/lock/{name}.json" for name in names),
                    "next           git diff vm/lock; inv build-vm --locked",
                ]
            )
        return True
    if keep:
        count = locks.keep_packages(Path(keep).absolute(), progress)
        if as_json:
            show_json({"kept": count, "directory": keep})
        else:
            show([f"kept           {count} package files in {keep}", f"next           inv build-vm --locked --packages {keep}"])
        return True
    found = locks.compare(progress)
    if as_json:
        show_json([asdict(each) for each in found])
    else:
        show([each.line() for each in found] or "the suites offer what is locked")
        if found:
            show("next           inv lock --update")
    return not found


def keys_new(directory: str, *, passphrase_file: str = "", ask: bool = False) -> None:
    """Make the keys of releases in a directory.

    Raises:
        UsageError: there are some already, or the passphrase cannot be had.
    """
    from cofferdam.release.keys import new_signing_key, read_passphrase

    passphrase = read_passphrase(Path(passphrase_file)) if passphrase_file else _asked() if ask else b""
    private, public, allowed = new_signing_key(Path(directory), passphrase)
    kept = "with its passphrase" if passphrase else "it has no passphrase"
    show(
        [
            f"private key    {private} (keep it offline, {kept}; who has it can make releases)",
            f"public key     {public}",
            f"allowed        {allowed}",
            f"next           give {allowed.name} to who checks releases: inv verify DIR --key {allowed}",
        ]
    )


def keys_new_secure_boot(directory: str) -> None:
    """Make the key for Secure Boot in a directory.

    Raises:
        UsageError: there is one already, or it cannot be written.
    """
    from cofferdam.image.securekey import new_secure_boot_key

    private, certificate = new_secure_boot_key(Path(directory))
    show(
        [
            f"private key    {private} (keep it offline, it has no passphrase; who has it can make what firmware starts)",
            f"certificate    {certificate}",
            f"next           inv build-vm --format raw --secure-boot {directory}; firmware has to be told the certificate",
        ]
    )


def _asked() -> bytes:
    first, second = getpass("passphrase: "), getpass("again: ")
    if not first or first != second:
        raise UsageError("the two passphrases are not the same, or empty", hint="Run the command again.")
    return first.encode()


def verify(directory: str, key: str = "", *, as_json: bool = False) -> bool:
    """Check a release folder and show what was looked at.

    Returns:
        Whether it can be trusted.

    Raises:
        NotVerifiedError: it is no folder.
    """
    from cofferdam.release import verify as verification

    checks = verification.verify(Path(directory), Path(key) if key else None)
    good = all(each.ok for each in checks)
    if as_json:
        show_json({"directory": directory, "verified": good, "checks": [each.as_dict() for each in checks]})
        return good
    table = Table("check", "result")
    table.add_column("found", overflow="fold")
    for each in checks:
        table.add_row(each.name, Text("ok" if each.ok else "REFUSED", "green" if each.ok else "bold red"), Text(each.found))
    console().print(table)
    show("verified" if good else "error: this release cannot be trusted\n  next: Do not use it; download it again.")
    return good


def sbom(profile: str, kind: str, out: str = "") -> None:
    """Write the bill of materials of a profile's latest image, to standard output unless a file is named.

    Raises:
        UsageError: there is no such format, or the file cannot be written.
        BuildError: there is no image, or it does not say what it was made with.
    """
    from cofferdam.image.model import load_image
    from cofferdam.release.folder import ingredients
    from cofferdam.release.sbom import make_sbom

    image = load_image(profile)
    text = make_sbom(image, ingredients(image), kind, source_epoch())
    if not out:
        show(text.rstrip("\n"))
        return
    try:
        write_text(Path(out), text)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}", hint="Name a file in a directory that you can write.") from error
    note = "" if image.copyrights else "; without licences: `inv build-vm --refresh` makes an image that has them"
    show(f"sbom           {out}{note}")


def vulnerabilities(profile: str, data: str = "", fail_on: str = "high", *, as_json: bool = False) -> bool:
    """Show the known vulnerabilities of a profile's latest image by a file of the security tracker's data.

    Returns:
        Whether none is as bad as `fail_on`, or worse.

    Raises:
        UsageError: no such file, or no such urgency.
    """
    from cofferdam.image.model import Manifest, load_image
    from cofferdam.release import vulnerabilities as known

    worst = known.rank(known.require_urgency(fail_on))
    found_data = known.read_data(Path(data) if data else None)
    manifest = Manifest.model_validate_json(load_image(profile).manifest.read_text(encoding="utf-8"))
    found = known.judge_image(manifest, found_data)
    bad = [each for each in found if known.rank(each.urgency) >= worst]
    if as_json:
        show_json({"fail_on": fail_on, "failed": bool(bad), "findings": [each.as_dict() for each in found]})
        return not bad
    table = Table("id", "urgency", "source", "installed", "mended in")
    for each in found:
        table.add_row(*map(Text, (each.id, each.urgency, each.source, each.installed, each.fixed or "nothing yet")))
    if found:
        console().print(table)
    show(f"{len(found)} known vulnerabilities, {len(bad)} of urgency {fail_on} or worse, or not judged yet")
    return not bad


def source_epoch() -> int:
    """The time stamp that results carry: SOURCE_DATE_EPOCH, else that of the checkout's commit.

    Raises:
        UsageError: the variable is no number.
        HostError: there is neither.
    """
    if word := os.environ.get("SOURCE_DATE_EPOCH"):
        if not (word.isascii() and word.isdecimal() and len(word) <= _LONGEST_EPOCH):
            raise UsageError(f"SOURCE_DATE_EPOCH={word}: not a number of seconds", hint="Set it to a number, or unset it.")
        return int(word)
    try:
        return int(run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture=True).stdout)
    except (CommandError, ValueError) as error:
        raise HostError("there is no time stamp to use", hint="Set SOURCE_DATE_EPOCH, or work in a git checkout.") from error
