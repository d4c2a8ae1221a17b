"""The part of the menu that is about releases; `tasks.py` takes it in."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from cofferdam.errors import UsageError
from cofferdam.menu import JSON, PROFILE, verb


@task(help={"update": "lock what the suites offer now", "keep": "copy all locked package files to this directory", "json": JSON})
@verb
def lock(_: Context, update: bool = False, keep: str = "", json: bool = False) -> None:
    """Compare vm/lock with what the suites offer; ends with 1 when they differ.  Example: inv lock --update"""
    from cofferdam import releaseverbs

    if not releaseverbs.lock(update=update, keep=keep, as_json=json):
        raise Exit(code=1)


@task(help={"profile": PROFILE, "format": "cyclonedx or spdx", "out": "the file; default: standard output"})
@verb
def sbom(_: Context, profile: str = "default", format: str = "cyclonedx", out: str = "") -> None:
    """Write what a profile's latest image is made of, with licences.  Example: inv sbom --format spdx --out image.spdx.json"""
    from cofferdam import releaseverbs

    releaseverbs.sbom(profile, format, out)


_KNOWN = {
    "data": "file of Debian's security tracker (JSON)",
    "fail-on": "the least urgency that ends with 1: unimportant, low, medium or high",
    "profile": PROFILE,
    "json": JSON,
}


@task(help=_KNOWN)
@verb
def vulnerabilities(_: Context, data: str = "", fail_on: str = "high", profile: str = "default", json: bool = False) -> None:
    """Show known vulnerabilities of a profile's latest image.  Example: inv vulnerabilities --data tracker.json"""
    from cofferdam import releaseverbs

    if not releaseverbs.vulnerabilities(profile, data, fail_on, as_json=json):
        raise Exit(code=1)


@task(help={"directory": "folder of the release", "key": "allowed_signers file of who makes the releases", "json": JSON})
@verb
def verify(_: Context, directory: str, key: str = "", json: bool = False) -> None:
    """Check a release folder; ends with 1 when it cannot be trusted.  Example: inv verify cofferdam-1.0 --key allowed_signers"""
    from cofferdam import releaseverbs

    if not releaseverbs.verify(directory, key, as_json=json):
        raise Exit(code=1)


_KEYS = {
    "directory": "where",
    "passphrase-file": "its first line encrypts the key",
    "ask": "for a passphrase",
    "secure-boot": "the key that signs disks for firmware instead",
}


@task(name="new", help=_KEYS)
@verb
def new_keys(_: Context, directory: str, passphrase_file: str = "", ask: bool = False, secure_boot: bool = False) -> None:
    """Make the key that signs releases, and the list of who may sign.  Example: inv keys.new ~/cofferdam-keys --ask"""
    from cofferdam import releaseverbs

    if secure_boot:
        if ask or passphrase_file:
            raise UsageError("a key for Secure Boot has no passphrase", hint="Leave it out, or sign with a key on a token.")
        releaseverbs.keys_new_secure_boot(directory)
        return
    releaseverbs.keys_new(directory, passphrase_file=passphrase_file, ask=ask)


RELEASE_TASKS = (lock, sbom, vulnerabilities, verify)
keys = Collection("keys", new_keys)
