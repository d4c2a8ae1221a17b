"""What the verbs do, between the menu in `tasks.py` and the packages that do the work."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cofferdam import policy as policies
from cofferdam.errors import BuildError, HostError, InstanceError
from cofferdam.machine import api
from cofferdam.machine.context import environment, export_line
from cofferdam.machine.instance import Instance, State
from cofferdam.machine.settings import BootSettings, boot_settings
from cofferdam.machine.stored import otherwise
from cofferdam.profile import Profile, load_profile
from cofferdam.progress import Progress

# What builds is imported where it is used: it needs Linux, and the other verbs do not.
if TYPE_CHECKING:
    from cofferdam.doctor import Check
    from cofferdam.image.model import Image
    from cofferdam.machine.door import Door

Row = dict[str, Any]
_WIDE = 1000
_UP = (str(State.RUNNING),)
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show(text: str | Iterable[str]) -> None:
    """Print result lines on standard output."""
    for line in [text] if isinstance(text, str) else text:
        print(line, flush=True)


def console() -> Console:
    """The terminal; for a file or a pipe lines as wide as what is in them, so that nothing is cut."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def show_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, default=str)
    print(flush=True)


def build(
    profile: str,
    *,
    refresh: bool = False,
    as_json: bool = False,
    locked: bool = False,
    packages: str = "",
    reproducible: str = "",
    format: str = "",
    secure_boot: str = "",
    certificate: str = "",
) -> Image:
    """Build the image of a profile, and one file of a format when one is named, and say where it is and what is next.

    Raises:
        UsageError: options that exclude each other, no such format, a key for Secure Boot that cannot be used.
    """
    from cofferdam.image.build import build_vm
    from cofferdam.image.formats import chosen_signer, make_artefact
    from cofferdam.machine.shares.tree import ensure_tree
    from cofferdam.tools.lock import IMAGE_TOOLS, VIRTIOFSD, chosen_lock, pinned

    lock, progress = chosen_lock(locked=locked, packages=packages, refresh=refresh), Progress()
    signer = chosen_signer(format, secure_boot, certificate)
    image = build_vm(load_profile(profile), progress, refresh=refresh, lock=lock)
    if lock is not None:
        ensure_tree(progress, lock.pinned(VIRTIOFSD))
    made = make_artefact(image, format, progress, signer=signer, pinned=pinned(lock, IMAGE_TOOLS)) if format else None
    if reproducible:
        _require_reproducible(load_profile(profile), image, reproducible, progress)
    if as_json:
        row = {
            "profile": profile,
            "directory": image.directory,
            "manifest": json.loads(image.manifest.read_text(encoding="utf-8")),
        }
        show_json({**row, "artefact": asdict(made)} if made else row)
        return image
    option = "" if profile == "default" else f" --profile {profile}"
    option += f" --format {format}" if format else ""
    size = image.root.stat().st_size / 2**20
    show(
        [
            f"image          {image.directory}",
            *([f"{made.format:<14} {made.path}"] if made else []),
            *([f"root hash      {made.root_hash}"] if made and made.root_hash else []),
            f"sizes          root {size:.1f} MiB, kernel {image.kernel.stat().st_size / 2**20:.1f} MiB",
            f"next           inv boot{option}",
        ]
    )
    return image


def _require_reproducible(recipe: Profile, image: Image, what: str, progress: Progress) -> None:
    """Build a second time and compare.

    Raises:
        BuildError: something differs; the message names each file.
    """
    from cofferdam.release.reproducible import check_reproducible

    outcome = check_reproducible(recipe, image, what, progress)
    if outcome.different:
        report = f" diffoscope's report: {outcome.diffoscope}." if outcome.diffoscope else ""
        lines = "\n".join(outcome.different)
        raise BuildError(f"two builds from the same packages differ:\n{lines}", hint=f"Find what wrote them.{report}")
    progress.line(f"reproducible   {', '.join(outcome.files)}: the same in a second build")


def up(profile: str, name: str, **options: object) -> None:
    """Doctor, build when needed, boot when it does not run yet, show an isolated container, say what to do next.

    Args:
        profile: of the image.
        name: of the instance.
        options: further command line values for its boot; a running one has to have them already.
    """
    from cofferdam.demo import demonstrate
    from cofferdam.image.build import build_vm
    from cofferdam.machine.door import Door
    from cofferdam.tools.tree import ensure_tools

    settings = boot_settings(name=name, profile=profile, **options)
    _require_host()
    progress = Progress()
    image = build_vm(load_profile(profile), progress)
    instance = Instance(name)
    if str(instance.state()) in _UP:
        door = _running_door(settings)
        progress.line(f"boot           instance {name} is already running")
    else:
        report = api.boot(settings, progress, image)
        show(report.lines())
        door = Door(report.docker_host, report.cert_path)
    with progress.stage("demonstration", "docker run --privileged cofferdam/hello cat /proc/self/uid_map"):
        mapped = demonstrate(door, ensure_tools(Progress(quiet=True)).path / "usr/bin/busybox")
    option = "" if name == "default" else f" --name {name}"
    show(_up_lines(mapped, door, option))


def _up_lines(mapped: str, door: Door, option: str) -> list[str]:
    exports = export_line(environment(door.docker_host, door.cert_path))
    return [
        "",
        "A privileged container printed its /proc/self/uid_map (id inside, id in the VM, how many):",
        mapped,
        "Its root is an ordinary user of the VM, in a range that no other container has.",
        "",
        f"next           docker --context cofferdam{'-' + option.split()[-1] if option else ''} run ...   or: {exports}",
        f"               inv status{option}, inv stop{option}; ./inv test proves the isolation",
    ]


def _running_door(settings: BootSettings) -> Door:
    from cofferdam.machine.door import Door

    name, profile, row = settings.name, settings.profile, api.status(settings.name)[0]
    if row["profile"] != profile:
        hint = (
            f"Stop it with `inv stop --name {name}` first, or boot another beside it: `inv up --profile {profile} --name OTHER`."
        )
        raise InstanceError(f"instance `{name}` is running with the profile {row['profile']}, not {profile}", hint=hint)
    if others := otherwise(Instance(name), settings):
        hint = f"Stop it with `inv stop --name {name}` first, or leave {', '.join(others)} out."
        raise InstanceError(f"instance `{name}` is running, and was booted with another {', '.join(others)}", hint=hint)
    return Door(str(row["docker_host"]), Path(str(row["cert_path"])))


def doctor(*, fix: bool = False, as_json: bool = False) -> None:
    """Show every requirement of this machine.

    Raises:
        HostError: one is not met.
    """
    from cofferdam.doctor import doctor as examine

    checks = examine(fix=fix)
    if as_json:
        show_json([check.as_dict() for check in checks])
    else:
        console().print(_check_table(checks))
    counts = Counter(check.status for check in checks)
    if counts["fail"]:
        _refuse(checks)
    if not as_json:
        limits = f"; warnings: {counts['warn']}, the work goes on with them" if counts["warn"] else ""
        show(f"next           inv up{limits}")


def _check_table(checks: list[Check]) -> Table:
    table = Table("id", "status")
    for heading in ("found", "fix"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(check.id, Text(check.status, _STYLES[check.status]), Text(check.found), Text(check.fix))
    return table


def _require_host() -> None:
    from cofferdam.doctor import doctor as examine

    _refuse(examine(fix=True))


def _refuse(checks: list[Check]) -> None:
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        text = "\n".join(f"{check.id}: {check.found}" for check in failed)
        hints = dict.fromkeys(check.fix for check in failed if check.fix)
        raise HostError(f"this machine is not ready:\n{text}", hint="\n        ".join(hints) or "See `inv doctor`.")


def profile(name: str, *, as_json: bool = False) -> None:
    """Print a profile with its include resolved and its defaults filled in; the TOML is a profile file itself."""
    resolved = load_profile(name)
    if as_json:
        show_json(resolved.model_dump())
    else:
        show(profile_lines(resolved))


def profile_lines(resolved: Profile) -> list[str]:
    """The lines of a profile file that says the same and includes nothing."""
    included = f", its include `{resolved.include}` resolved" if resolved.include else ""
    return [f"# Profile `{resolved.name}`{included}.", *_toml(resolved.model_dump(exclude={"name", "include"}))]


def _toml(values: dict[str, Any]) -> list[str]:
    # Texts, booleans and lists of them are written in TOML as in JSON; tables come last, or they would take in what follows.
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    plain = {key: value for key, value in values.items() if key not in tables}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    return lines + [line for key, table in tables.items() for line in ("", f"[{key}]", *_toml(table))]


def policy_check(file: str, *, as_json: bool = False) -> None:
    """Check a policy and show what was found.

    Raises:
        PolicyFileError: it cannot be used; the message holds its errors.
    """
    found = policies.read_policy(Path(file))
    if as_json:
        show_json(policies.check_json(found))
    else:
        show(found.lines("warning", "note"))
    found.require_good()
    if not as_json:
        show(f"{file}: ok")


def policy_show(file: str, profile_name: str, *, as_json: bool = False) -> None:
    """Show the policy that holds in an image of a profile, booted with a file or without.

    Raises:
        PolicyFileError: one of the two cannot be used.
    """
    baked = policies.profile_policy(load_profile(profile_name))
    boot_file = policies.boot_policy(Path(file)) if file else None
    result, files = policies.joined(baked, boot_file), [baked, *([boot_file] if boot_file else [])]
    if as_json:
        show_json(policies.show_json(result, files))
    else:
        show(policies.show_lines(result, files))


def status(name: str, *, as_json: bool = False) -> None:
    """Show one instance, or all of them."""
    show_instances(api.status(name or None), _status_table, as_json=as_json)


def show_instances(rows: list[Row], in_words: Callable[[list[Row]], None], *, as_json: bool) -> None:
    """Show rows of `api.status` as JSON or in words; that there are none in words of its own."""
    if as_json:
        show_json(rows)
    elif rows:
        in_words(rows)
    else:
        show("no instances; `inv up` makes the first")


def _status_table(rows: list[Row]) -> None:
    table = Table("name", "state", "profile", "accelerator", "cpus", "memory", "docker", "data disk", "policy")
    for column in table.columns:
        # An address of which a part is missing helps nobody.
        column.overflow = "fold"
    for row in rows:
        disk = row.get("data_disk")
        size = f"{disk['used'] / 2**30:.1f} of {disk['bytes'] / 2**30:.0f} GiB" if disk else ""
        size += ", sealed to the TPM" if disk and disk.get("sealed") else ""
        memory = f"{row['memory']} MiB" if "memory" in row else ""
        table.add_row(
            row["name"],
            row["state"],
            *(str(row.get(key, "")) for key in ("profile", "accelerator", "cpus")),
            memory,
            row.get("docker_host", ""),
            size,
            ((row.get("policy") or {}).get("sha256") or "")[:12],
        )
    console().print(table)
    show(f"note: {row['name']}: {line}" for row in rows for line in row.get("note", "").splitlines())
