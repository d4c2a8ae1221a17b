"""One archive for a bug report: what this machine, an instance and its image are, and what they said. Never a secret.

What goes in is named here, part by part; keys and certificates are no part, and every text is scrubbed on its way.
"""

from __future__ import annotations

import io
import json
import platform
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cofferdam import policy as policies
from cofferdam.doctor import doctor
from cofferdam.errors import CofferdamError
from cofferdam.image.model import load_image
from cofferdam.machine import api
from cofferdam.machine.console import last_lines
from cofferdam.machine.imageref import read_origin
from cofferdam.machine.instance import Instance
from cofferdam.machine.kept import read_kept
from cofferdam.profile import load_profile
from cofferdam.scrub import scrub, scrub_json

INDEX = "index.txt"
LOG_LINES = 5000
_HEAD = "Diagnosis of instance `{}`. Keys, certificates and passwords are left out; look through it all the same.\n\n"
_DISTRIBUTIONS = ("cofferdam", "cryptography", "docker", "invoke", "jinja2", "paramiko", "pydantic", "qemu.qmp", "rich")
_HIDDEN = ("environment", "cert_path", "ssh")
_LOGS = ("console.log", "console.log.old", "qemu.log", "qemu.log.old", "shares.log", "keeper.log")


@dataclass(frozen=True)
class Part:
    """One file of the archive: its name, what it is, and what makes it: a text, or a value that is written as JSON."""

    name: str
    what: str
    make: Callable[[Instance], Any]


@dataclass(frozen=True)
class Made:
    """A part that was tried: its content, or why there is none."""

    part: Part
    content: str
    problem: str = ""

    def line(self) -> str:
        """Its line of the index."""
        outcome = f"not there: {self.problem}" if self.problem else f"{len(self.content.encode())} bytes"
        return f"{self.part.name:<17} {self.part.what}; {outcome}"


def _doctor(_: Instance) -> Any:
    return [check.as_dict() for check in doctor()]


def _status(_: Instance) -> Any:
    return [{key: value for key, value in row.items() if key not in _HIDDEN} for row in api.status(tidy=False)]


def _versions(_: Instance) -> Any:
    system = {"platform": platform.platform(), "python": platform.python_version()}
    return system | {name: version(name) for name in _DISTRIBUTIONS}


def _record(instance: Instance) -> Any:
    # Not by way of the model: a record that cannot be read is what one wants to see.
    text = (instance.directory / "boot.json").read_text(encoding="utf-8", errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _files(instance: Instance) -> Any:
    return [
        {"name": path.name, "size": status.st_size, "mode": stat.filemode(status.st_mode)}
        for path in sorted(instance.directory.iterdir())
        for status in [path.lstat()]
    ]


def _log(name: str) -> Callable[[Instance], str]:
    def read(instance: Instance) -> str:
        path = instance.directory / name
        path.stat()
        return "\n".join([*last_lines(path, LOG_LINES), ""])

    return read


def _profile_name(instance: Instance) -> str:
    record = instance.record
    return record.profile if record is not None else "default"


def _profile(instance: Instance) -> Any:
    return load_profile(_profile_name(instance)).model_dump(mode="json")


def _images(instance: Instance) -> Any:
    kept = read_kept(instance)
    known = {each.directory: read_origin(Path(each.directory)) for each in kept.references()}
    return {**kept.model_dump(mode="json"), "origins": {path: origin.model_dump() for path, origin in known.items() if origin}}


def _manifest(instance: Instance) -> Any:
    kept = read_kept(instance)
    image = kept.current.open() if kept.current is not None else load_image(_profile_name(instance))
    return json.loads(image.manifest.read_text(encoding="utf-8"))


def _policy(instance: Instance) -> Any:
    record = instance.record
    baked = policies.profile_policy(load_profile(_profile_name(instance)))
    name = record.policy.file if record is not None and record.policy is not None else None
    handed_over = policies.boot_policy(Path(name)) if name else None
    return policies.show_json(policies.joined(baked, handed_over), [baked, *([handed_over] if handed_over else [])])


PARTS = (
    Part("versions.json", "this program, its libraries, the system", _versions),
    Part("doctor.json", "`inv doctor --json`", _doctor),
    Part("status.json", "`inv status --json`, without how to get in", _status),
    Part("boot.json", "record of the latest boot", _record),
    Part("images.json", "the images that the instance refers to, and its latest update", _images),
    Part("files.json", "names and sizes in the instance's directory", _files),
    Part("profile.json", "the profile, resolved", _profile),
    Part("manifest.json", "the image's manifest", _manifest),
    Part("policy.json", "`inv policy.show --json`", _policy),
    *(Part(name, f"the last {LOG_LINES} lines of it", _log(name)) for name in _LOGS),
)


def collect(instance: Instance) -> Iterator[Made]:
    """Make every part, scrubbed. A part that cannot be made is one without content and with its problem, never an error."""
    for part in PARTS:
        try:
            yield Made(part, _scrubbed(part.make(instance)))
        except CofferdamError as error:
            yield Made(part, "", scrub(str(error)))
        except OSError as error:
            yield Made(part, "", error.strerror or type(error).__name__)
        except Exception as error:
            # A bug in one part is no reason to lose the report that would show it.
            yield Made(part, "", scrub(f"{type(error).__name__}: {error}"))


def _scrubbed(value: Any) -> str:
    if isinstance(value, str):
        return scrub(value)
    return json.dumps(scrub_json(json.loads(json.dumps(value, default=str))), indent=2) + "\n"


def archive(instance: Instance) -> tuple[bytes, list[str]]:
    """The archive (tar, gzip) with its index, and the lines of the index."""
    made = list(collect(instance))
    lines = [each.line() for each in made]
    files = {INDEX: _HEAD.format(instance.name) + "\n".join([*lines, ""])}
    files |= {each.part.name: each.content for each in made if not each.problem}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name, text in files.items():
            data = text.encode("utf-8", errors="replace")
            entry = tarfile.TarInfo(f"cofferdam-{instance.name}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(data))
    return sink.getvalue(), lines
