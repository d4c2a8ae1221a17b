"""Work in steps that a second run takes up where the first one ended, however that was.

What a step makes is a directory that appears by one rename, with a stamp in it: the hash of what it was made from, and the
checksums of its files. A step whose stamp is right is not done again; the checksums of what it needs are part of its inputs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cofferdam.cache import digest, file_digest, remove_tree
from cofferdam.errors import InstanceError
from cofferdam.machine.hostos import FileLock
from cofferdam.progress import Progress

STAMP = "stamp.json"
Subject = tuple[str, ...]
State = TypeVar("State")


class Stamp(BaseModel):
    """What a step was made from, and the checksums of what it made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: str
    files: dict[str, str]


@dataclass(frozen=True)
class Step(Generic[State]):
    """A kind of work, a row of a table.

    Attributes:
        name: what it is called.
        makes: what comes out, for people.
        of: what it is done for: the whole, each profile, or each profile in each format.
        needs: names of earlier steps.
        inputs: what else it depends on (JSON), from the state and the subject.
        make: does it, into a directory; what of earlier steps it needs, it finds by `Work.place`.
    """

    name: str
    makes: str
    of: Literal["release", "profile", "artefact"]
    needs: tuple[str, ...]
    inputs: Callable[[State, Subject], object]
    make: Callable[[State, Subject, Path], None]


@dataclass(frozen=True)
class Job(Generic[State]):
    """One step for one subject: (), (PROFILE) or (PROFILE, FORMAT)."""

    step: Step[State]
    subject: Subject

    @property
    def name(self) -> str:
        """Also the name of its directory."""
        return "-".join((self.step.name, *self.subject))

    def needs(self, other: Job[State]) -> bool:
        """Whether this job needs the other one: of a step that it needs, and for the same subject, a part of it, or the whole."""
        shorter = min(len(self.subject), len(other.subject))
        return other.step.name in self.step.needs and self.subject[:shorter] == other.subject[:shorter]


def all_jobs(steps: Sequence[Step[State]], profiles: Sequence[str], formats: Sequence[str]) -> list[Job[State]]:
    """Every job of a table, in its order."""
    subjects: dict[str, list[Subject]] = {
        "release": [()],
        "profile": [(profile,) for profile in profiles],
        "artefact": [(profile, kind) for profile in profiles for kind in formats],
    }
    return [Job(step, subject) for step in steps for subject in subjects[step.of]]


class Work:
    """The directory with what the steps have made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def place(self, step: str, *subject: str) -> Path:
        """Where a step's files are."""
        return self.directory / "-".join((step, *subject))

    def stamp(self, name: str) -> Stamp | None:
        """The stamp of what is there; none when it is not whole."""
        try:
            return Stamp.model_validate_json((self.directory / name / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None

    def kept(self, name: str, inputs: str) -> Stamp | None:
        """The stamp of what is there, if it was made from these inputs and is still what it was."""
        found = self.stamp(name)
        if found is None or found.inputs != inputs or _files(self.directory / name) != found.files:
            return None
        return found

    def make(self, name: str, inputs: str, make: Callable[[Path], None]) -> Stamp:
        """Make a step's directory; another one in its place goes."""
        final, part = self.directory / name, self.directory / f"{name}.part"
        for path in (part, final):
            remove_tree(path)
        part.mkdir(parents=True)
        make(part)
        stamp = Stamp(inputs=inputs, files=_files(part))
        (part / STAMP).write_text(stamp.model_dump_json(indent=1) + "\n", encoding="utf-8")
        os.sync()
        part.rename(final)
        return stamp

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the only one at work in it.

        Raises:
            InstanceError: another command is.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.directory / ".lock")
        if not lock.acquire():
            raise InstanceError(f"another command is at work in {self.directory}", hint="Wait for it to end.")
        with lock.holding():
            yield


@dataclass(frozen=True)
class Outcome:
    """A job that is done: its name, what it makes, whether it had been done before, and how long it took."""

    name: str
    makes: str
    kept: bool
    seconds: float = 0.0


def run_jobs(jobs: Sequence[Job[State]], state: State, work: Work, progress: Progress, until: str = "") -> list[Outcome]:
    """Do every job that is not done yet.

    Args:
        jobs: in their order.
        state: what they get.
        work: where their files are.
        progress: where to report.
        until: name of the last step to do; empty for all.
    """
    stamps: dict[str, Stamp] = {}
    outcomes = []
    wanted = upto(jobs, until)
    for number, job in enumerate(wanted, 1):
        inputs, start, where = _inputs(job, jobs, state, stamps), time.monotonic(), f"[{number}/{len(wanted)}]"
        kept = work.kept(job.name, inputs)
        progress.line(f"release        {where} {job.name}: {'kept' if kept else job.step.makes}")
        stamps[job.name] = kept or work.make(job.name, inputs, lambda path, job=job: job.step.make(state, job.subject, path))  # type: ignore[misc]
        seconds = time.monotonic() - start
        if not kept:
            progress.line(f"release        {where} {job.name}: done in {seconds:.1f} s")
        outcomes.append(Outcome(job.name, job.step.makes, kept is not None, seconds))
    return outcomes


def plan_jobs(jobs: Sequence[Job[State]], state: State, work: Work, until: str = "") -> list[Outcome]:
    """What `run_jobs` would do."""
    stamps: dict[str, Stamp] = {}
    outcomes = []
    for job in upto(jobs, until):
        needed = [other.name for other in jobs if job.needs(other)]
        kept = None
        if all(name in stamps for name in needed):
            kept = work.kept(job.name, _inputs(job, jobs, state, stamps))
        if kept:
            stamps[job.name] = kept
        outcomes.append(Outcome(job.name, job.step.makes, kept is not None))
    return outcomes


def upto(jobs: Sequence[Job[State]], until: str) -> list[Job[State]]:
    """The jobs up to the last one of a step; all without one."""
    last = max((index for index, job in enumerate(jobs) if job.step.name == until), default=len(jobs) - 1)
    return list(jobs[: last + 1])


def _inputs(job: Job[State], jobs: Sequence[Job[State]], state: State, stamps: dict[str, Stamp]) -> str:
    needed = {other.name: stamps[other.name].files for other in jobs if job.needs(other)}
    return digest({"job": job.name, "inputs": job.step.inputs(state, job.subject), "needs": needed})


def _files(directory: Path) -> dict[str, str]:
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file() and path != directory / STAMP)
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in paths}
