"""Release notes: what has changed, what is in the release, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cofferdam.bench.model import Report
from cofferdam.bench.report import markdown
from cofferdam.image.model import Manifest
from cofferdam.release.boottest import BootProof
from cofferdam.release.testreport import TestSummary
from cofferdam.template import render

_TEMPLATE = Path(__file__).with_name("notes.md.j2")
_ENGINE = "docker.io"


@dataclass(frozen=True)
class ReleasedFile:
    """An artefact as the notes show it."""

    name: str
    profile: str
    format: str
    size: int
    proof: BootProof


def make_notes(
    *,
    version: str,
    commit: str,
    epoch: int,
    changes: str,
    image: Manifest,
    files: Sequence[ReleasedFile],
    tests: TestSummary,
    bench: Report,
) -> str:
    """The notes, in Markdown; the same figures give the same text.

    Args:
        version: of the release.
        commit: that it was made from.
        epoch: time stamp of the commit.
        changes: section of the changelog.
        image: manifest of an image of the release; kernel and engine are the same in all of them.
        files: the artefacts.
        tests: what the tests were.
        bench: what was measured.
    """
    engine = next((each.version for each in image.packages if each.name == _ENGINE), "unknown")
    return render(
        _TEMPLATE,
        version=version,
        commit=commit,
        date=datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d"),
        kernel=image.kernel.version,
        dockerd=engine,
        suite=image.root.suite,
        changes=changes,
        files=[{**vars(each), **each.proof.model_dump(include={"seconds", "accelerator"})} for each in files],
        uid_map=files[0].proof.uid_map,
        tests=tests,
        measured=markdown(bench),
    )
