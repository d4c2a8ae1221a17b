"""Debian trees with a record of what is in them, from the suites as they are or from the lock and nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cofferdam.cache import remove_tree
from cofferdam.tools.bootstrap import COPYRIGHT, bootstrap
from cofferdam.tools.lock import Pinned
from cofferdam.tools.packages import RECORD, Contents, archives, extracted, installed
from cofferdam.tools.repository import Repository
from cofferdam.tools.store import available, fetch

COPYRIGHTS = "copyrights.json"
"""File of a stage with the texts of the packages' copyright files, by the packages' names."""

_EXTRACT = "extract"


def make_tree(
    suite: str,
    archive: Path,
    log: Path,
    *,
    variant: str,
    packages: Sequence[str],
    hooks: Sequence[str] = (),
    pinned: Pinned | None = None,
    copyrights: bool = False,
    epoch: int | None = None,
) -> Contents:
    """Make a tar of a Debian tree, and `packages.json` beside it.

    Args:
        suite: Debian suite.
        archive: the tar to write; what is recorded lies in its directory.
        log: file for the output.
        variant: mmdebstrap's variant.
        packages: names of packages to install besides the variant's.
        hooks: further hooks, see `bootstrap`.
        pinned: the lock that holds; none takes what the suite offers.
        copyrights: write the packages' copyright files beside the tar; they are not in it.
        epoch: see `bootstrap`.

    Returns:
        What is in the tree.

    Raises:
        HostError: mmdebstrap is not installed.
        BuildError: it failed, or the packages are not those of the lock.
    """
    work = archive.parent
    with ExitStack() as stack:
        setup: list[str] = []
        after = _recording(work, variant)
        if copyrights:
            (work / "doc").mkdir()
            after += [f"sync-out /usr/share/doc {shlex.quote(str(work / 'doc'))}", 'find "$1/usr/share/doc" -mindepth 1 -delete']
        if pinned is not None:
            pinned.require_names(packages)
            files = available(pinned, suite, partial(fetch, suite=suite, log=log))
            repository = stack.enter_context(Repository(files, suite, work))
            setup, after = repository.setup, [*after, *repository.undo]
        options = {"hooks": [*hooks, *after], "setup": setup, "included": [COPYRIGHT] if copyrights else []}
        bootstrap(suite, archive, log, variant=variant, packages=packages, epoch=epoch, **options)
    found = _read(work, variant)
    if copyrights:
        _collect_copyrights(work)
    contents = pinned.require(found) if pinned is not None else found
    (work / RECORD).write_text(contents.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return contents


def _recording(work: Path, variant: str) -> list[str]:
    """Hooks that bring out what tells the packages: of a tree that they are only unpacked into the files themselves."""
    for name in ("lists", "archives"):
        (work / name).mkdir()
    lists = f"sync-out /var/lib/apt/lists {shlex.quote(str(work / 'lists'))}"
    if variant == _EXTRACT:
        return [lists, f"sync-out /var/cache/apt/archives {shlex.quote(str(work / 'archives'))}"]
    return [lists, f"copy-out /var/lib/dpkg/status {shlex.quote(str(work))}"]


def _read(work: Path, variant: str) -> Contents:
    lists, status = work / "lists", work / "status"
    packages = extracted(work / "archives", lists) if variant == _EXTRACT else installed(status, lists)
    contents = Contents(packages=packages, archives=archives(lists))
    for path in (lists, work / "archives", status):
        remove_tree(path)
    return contents


def _collect_copyrights(work: Path) -> None:
    texts = {path.parent.name: path.read_text(encoding="utf-8", errors="replace") for path in (work / "doc").glob("*/copyright")}
    (work / COPYRIGHTS).write_text(json.dumps(texts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    remove_tree(work / "doc")
