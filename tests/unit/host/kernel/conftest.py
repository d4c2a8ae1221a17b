"""A tools tree that does nothing itself: it records what it is asked and answers from a table."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from cofferdam.cache import remove_tree
from cofferdam.progress import Progress
from cofferdam.run import CommandError, Result
from cofferdam.tools.tree import ToolsTree

Answer = Callable[[Sequence[str], Mapping[str, Path]], str | tuple[int, str]]


class FakeTools(ToolsTree):
    """Answers by program: `answers[name](argv, paths)` with `paths` from the path inside to the one on the host.

    An answer is the output, or a status and the error output.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "toolskey")
        object.__setattr__(self, "answers", {})
        object.__setattr__(self, "calls", [])

    answers: dict[str, Answer]
    calls: list[dict]

    def run(self, argv, *, binds=None, cwd="/", network=False, log=None, capture=False, env=None) -> Result:
        self.calls.append({"argv": list(argv), "network": network, "env": dict(env or {})})
        words = [word for word in argv if not word.startswith("-o")]
        if words[0] == "rm":
            for host, place in (binds or {}).items():
                for word in words:
                    if word.startswith(f"{place}/"):
                        remove_tree(host / word.removeprefix(f"{place}/"))
            return Result(tuple(argv), 0)
        answer = self.answers[" ".join(words[:2]) if " ".join(words[:2]) in self.answers else words[0]]
        outcome = answer(words, {place: host for host, place in (binds or {}).items()})
        status, text = outcome if isinstance(outcome, tuple) else (0, outcome)
        if status:
            raise CommandError(Result(tuple(argv), status, "", text), tail=text[-400:])
        return Result(tuple(argv), 0, text)


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    (tmp_path / "tree/etc/apt").mkdir(parents=True)
    lines = "# comment\ndeb http://mirror.example/debian-security trixie-security main\ndeb http://mirror.example/debian trixie main\n"
    (tmp_path / "tree/etc/apt/sources.list").write_text(lines, encoding="utf-8")
    return FakeTools(tmp_path / "tree")


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), width=200))


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"
