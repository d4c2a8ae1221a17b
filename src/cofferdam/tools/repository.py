"""A directory of package files that apt reads as a suite, for trees that must be made from those packages and no others."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Self

from cofferdam.cache import remove_tree
from cofferdam.run import run
from cofferdam.tools.bootstrap import scratch
from cofferdam.tools.packages import Package
from cofferdam.tools.store import file_name


class Repository:
    """The directory; it is there while the object is entered.

    Args:
        files: the packages, their checksums compared already. apt compares them once more, by the index.
        suite: the suite it stands for.
        work: directory of the stage.
    """

    def __init__(self, files: Mapping[Package, Path], suite: str, work: Path) -> None:
        self._files, self._suite, self._base = files, suite, scratch(work)
        self.path = Path()

    def __enter__(self) -> Self:
        """Copy the packages, and write what apt reads."""
        self.path = Path(tempfile.mkdtemp(dir=self._base, prefix="cofferdam-packages-"))
        try:
            for package, source in self._files.items():
                shutil.copyfile(source, self.path / file_name(package))
            text = "\n".join(entry(self.path / file_name(package), package) for package in self._files)
            (self.path / "Packages").write_text(text, encoding="utf-8")
            (self.path / "Release").write_text(release(text.encode(), self._suite), encoding="utf-8")
            # apt reads it under an id of its own
            for path in self.path.iterdir():
                path.chmod(0o644)
            self.path.chmod(0o755)
        except BaseException:
            remove_tree(self.path)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        remove_tree(self.path)

    @property
    def setup(self) -> list[str]:
        """Hooks that put it in the place of the suite's sources before apt reads them."""
        # Trusted: the checksums are those of the lock, which is under version control.
        line = shlex.quote(f"deb [trusted=yes] copy:{self.path} ./")
        return [f'cd "$1/etc/apt" && mv sources.list sources.list.d .. && mkdir sources.list.d && echo {line} >sources.list']

    @property
    def undo(self) -> list[str]:
        """Hooks that put the suite's sources back: the tree is to be the one that the suite gave."""
        return ['cd "$1/etc/apt" && rm -r sources.list sources.list.d && mv ../sources.list ../sources.list.d .']


def entry(path: Path, package: Package) -> str:
    """A package file's paragraph in the index."""
    control = run(["dpkg-deb", "--field", path], capture=True).stdout.rstrip("\n")
    return f"{control}\nFilename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {package.sha256}\n"


def release(index: bytes, suite: str) -> str:
    """The file that names the suite and the index's checksum."""
    checksum = f" {sha256(index).hexdigest()} {len(index)} Packages"
    lines = [f"Codename: {suite}", "Date: Thu, 01 Jan 1970 00:00:00 UTC", "SHA256:", checksum]
    return "\n".join(lines) + "\n"
