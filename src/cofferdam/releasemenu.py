"""The part of the menu that is about releases; `tasks.py` takes it in."""

from __future__ import annotations

from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from cofferdam.errors import UsageError
from cofferdam.menu import JSON, PROFILE, QUIET, verb, working


@task(
    help={
        "update": "lock what the suites offer now",
        "keep": "copy all locked package files to this directory",
        "json": JSON,
        "quiet": QUIET,
    }
)
@working
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


_RELEASE = {
    "version": "as in pyproject.toml and CHANGELOG.md; with -rc1 or the like behind it for a trial",
    "profile": "image recipe, once for each; default: default",
    "format": "once for each; default: all",
    "out": "directory of the release folder; default: releases",
    "key": "private key of `inv keys.new`, a file, or env:NAME for a variable that holds it",
    "passphrase-file": "its first line decrypts the key",
    "tests": "report of all tests on this commit (docs/releasing.md), in the place of running them",
    "bench": "latest.json of `inv bench` for this kernel, in the place of measuring",
    "packages": "a directory of `inv lock --keep`, in the place of the suites",
    "secure-boot": "key that signs the disks: a directory of `inv keys.new --secure-boot`, a file (PEM), or a PKCS#11 URI",
    "certificate": "certificate of that key (PEM); not needed with a directory",
    "keep-packages": "put the locked package files into the release",
    "until": "the last step to do: build, artefact, boot, tests, bench, packages, notes, folder or verified",
    "dry-run": "only show the steps, and which are done already",
    "json": JSON,
    "quiet": QUIET,
}


@task(help=_RELEASE, iterable=["profile", "format"])
@working
@verb
def release(
    _: Context,
    version: str,
    profile: list[str] | None = None,
    format: list[str] | None = None,
    out: str = "",
    key: str = "",
    passphrase_file: str = "",
    tests: str = "",
    bench: str = "",
    packages: str = "",
    keep_packages: bool = False,
    secure_boot: str = "",
    certificate: str = "",
    until: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Make a signed release folder; a second run goes on where the first ended.  Example: inv release 1.0.0 --key release.key"""
    from cofferdam import deliververbs

    options: dict[str, Any] = {
        "profiles": profile or [],
        "formats": format or [],
        "out": out,
        "key": key,
        "passphrase_file": passphrase_file,
    }
    options |= {"tests": tests, "bench": bench, "packages": packages, "keep_packages": keep_packages}
    options |= {"secure_boot": secure_boot, "certificate": certificate}
    deliververbs.release(version, dry_run=dry_run, until=until, as_json=json, **options)


_SIGNERS = "allowed_signers file of who makes the releases"
_PUBLISH = {
    "directory": "folder of the release",
    "reference": "HOST/NAME, with :TAG or the version as tag",
    "container-disk": "store one disk as an image that KubeVirt boots from",
    "profile": "with --container-disk: whose disk; default: default",
    "format": "with --container-disk: qcow2 or raw",
    "key": _SIGNERS,
    "json": JSON,
    "quiet": QUIET,
}


@task(help=_PUBLISH)
@working
@verb
def publish(
    _: Context,
    directory: str,
    reference: str,
    container_disk: bool = False,
    profile: str = "",
    format: str = "",
    key: str = "",
    json: bool = False,
) -> None:
    """Store a release in an OCI registry.  Example: inv publish releases/cofferdam-1.0.0 registry.example.com/cofferdam"""
    from cofferdam import deliververbs

    options: dict[str, Any] = {"container_disk": container_disk, "profile": profile, "kind": format, "key": key}
    deliververbs.publish(directory, reference, as_json=json, **options)


@task(
    help={
        "reference": "HOST/NAME:TAG or HOST/NAME@sha256:DIGEST",
        "directory": "the folder to make",
        "key": _SIGNERS,
        "quiet": QUIET,
    }
)
@working
@verb
def fetch(_: Context, reference: str, directory: str, key: str = "") -> None:
    """Get a release from an OCI registry, verified.  Example: inv fetch registry.example.com/cofferdam:1.0.0 cofferdam-1.0.0"""
    from cofferdam import deliververbs

    deliververbs.fetch(reference, directory, key=key)


RELEASE_TASKS = (lock, sbom, vulnerabilities, verify, release, publish, fetch)
keys = Collection("keys", new_keys)
