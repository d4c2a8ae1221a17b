"""What the verbs do that make releases and hand them on (release, publish, fetch), between menu and packages."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cofferdam.errors import UsageError
from cofferdam.progress import Progress
from cofferdam.verbs import show, show_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from cofferdam.release.order import Order
    from cofferdam.release.registry import Published
    from cofferdam.release.work import Outcome

_ENVIRONMENT = "env:"


def release(version: str, *, dry_run: bool = False, until: str = "", as_json: bool = False, **options: object) -> None:
    """Make a release, or show what would be done.

    Args:
        version: of the release.
        dry_run: only show the plan.
        until: last step to do.
        as_json: print JSON.
        options: see `order`.

    Raises:
        CofferdamError: it cannot be made, or a step failed.
    """
    from cofferdam.release.make import make_release, plan_release

    wanted, progress = order(version, **options), Progress()  # type: ignore[arg-type]
    outcomes = plan_release(wanted, progress, until=until) if dry_run else make_release(wanted, progress, until=until)
    if as_json:
        show_json({"release": wanted.target, "work": wanted.work, "steps": [asdict(each) for each in outcomes]})
        return
    if dry_run:
        show(_plan_lines(outcomes))
    elif until:
        show([f"work           {wanted.work}", f"next           inv release {version} --key FILE goes on from here"])
    else:
        show(_made_lines(wanted))


def order(
    version: str,
    *,
    profiles: list[str],
    formats: list[str],
    out: str,
    key: str,
    passphrase_file: str,
    tests: str,
    bench: str,
    packages: str,
    keep_packages: bool,
    secure_boot: str,
    certificate: str,
) -> Order:
    """The release that the options of the verb ask for.

    Raises:
        UsageError: they cannot be met.
        HostError: this is no git checkout.
    """
    from cofferdam.image.formats import FORMATS
    from cofferdam.image.signing import load_signer
    from cofferdam.release.order import RELEASES, Order, require_source
    from cofferdam.tools.lock import Lock

    return Order(
        version=version,
        source=require_source(version),
        profiles=tuple(dict.fromkeys(profiles or ["default"])),
        formats=tuple(dict.fromkeys(formats or FORMATS)),
        target=(Path(out).absolute() if out else RELEASES) / f"cofferdam-{version}",
        lock=Lock(kept=Path(packages).absolute()) if packages else Lock(),
        key=signing_key(key, passphrase_file) if key else None,
        tests=Path(tests).absolute() if tests else None,
        bench=Path(bench).absolute() if bench else None,
        packages=keep_packages,
        signer=load_signer(secure_boot, certificate) if secure_boot else None,
    )


def signing_key(key: str, passphrase_file: str = "") -> Ed25519PrivateKey:
    """The key that an option names: a file, or `env:NAME` for a variable that holds one, as pipelines keep secrets.

    Raises:
        UsageError: there is none, or it cannot be used.
    """
    from cofferdam.release.keys import load_signing_key, read_passphrase, read_signing_key

    passphrase = read_passphrase(Path(passphrase_file)) if passphrase_file else b""
    if not key.startswith(_ENVIRONMENT):
        return load_signing_key(Path(key), passphrase)
    text = os.environ.get(key.removeprefix(_ENVIRONMENT), "")
    if not text:
        raise UsageError(f"--key {key}: the variable is not set", hint="Set it to the contents of the key's file.")
    # Those who store secrets like to drop the last newline, which the format needs.
    return read_signing_key(f"{text.strip()}\n".encode(), key, passphrase)


def publish(
    directory: str, reference: str, *, container_disk: bool, profile: str, kind: str, key: str, as_json: bool = False
) -> None:
    """Store a release folder, or a disk of it, in a registry.

    Raises:
        NotVerifiedError: the folder cannot be trusted.
        UsageError, RegistryError: it cannot be stored there.
    """
    from cofferdam.release.containerdisk import publish_container_disk
    from cofferdam.release.registry import publish_release

    if (kind or profile) and not container_disk:
        raise UsageError("--profile and --format choose a disk", hint="Add --container-disk, or leave them out.")
    folder, signers, progress = Path(directory), Path(key) if key else None, Progress()
    done: Published
    if container_disk:
        done = publish_container_disk(folder, reference, progress, profile=profile or "default", kind=kind, key=signers)
    else:
        done = publish_release(folder, reference, progress, key=signers)
    if as_json:
        show_json({"reference": str(done.reference), "digest": done.digest, "already": done.already})
        return
    there = " (it was there already)" if done.already else ""
    following = "docs/releasing.md shows a VM of KubeVirt that boots it" if container_disk else f"inv fetch {done.pinned} DIR"
    show([f"published      {done.reference}{there}", f"digest         {done.digest}", f"next           {following}"])


def fetch(reference: str, directory: str, *, key: str = "") -> None:
    """Get a release folder from a registry; it is in its place when it was verified.

    Raises:
        NotVerifiedError: it cannot be trusted.
        UsageError, RegistryError: it cannot be had.
    """
    from cofferdam.release.registry import fetch_release

    found = fetch_release(reference, Path(directory).absolute(), Progress(), key=Path(key) if key else None)
    show(
        [
            f"fetched        {found}",
            "verified",
            f"next           inv verify {directory}{f' --key {key}' if key else ''} shows each check",
        ]
    )


def _plan_lines(outcomes: list[Outcome]) -> list[str]:
    width = max(len(each.name) for each in outcomes)
    return [f"{each.name:<{width}}  {'kept' if each.kept else 'to do':<6} {each.makes}" for each in outcomes]


def _made_lines(wanted: Order) -> list[str]:
    return [
        f"release        {wanted.target}",
        f"next           inv verify {wanted.target} --key ALLOWED_SIGNERS",
        f"               inv publish {wanted.target} HOST/NAME --key ALLOWED_SIGNERS",
    ]
