"""The image that the bench measures in: a small Debian 13 tree with Python and git."""

from __future__ import annotations

from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.progress import Progress
from cofferdam.tools.bootstrap import bootstrap

_SUITE = "trixie"
IMAGE = "cofferdam-bench/python"
"""Its name in a VM."""
_PACKAGES = ("python3-minimal", "git")


def python_image(progress: Progress) -> Path:
    """A tar for `docker import`, cached."""
    stage = Stage("bench-image", digest([_SUITE, _PACKAGES, 1]))

    def make(work: Path, log: Path) -> None:
        bootstrap(_SUITE, work / "python.tar", log, variant="minbase", packages=_PACKAGES)

    return stage.build(make, progress) / "python.tar"
