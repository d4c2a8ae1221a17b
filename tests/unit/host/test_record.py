"""The recorder of the README's pictures: what is redrawn is there once, with its colours, and the picture fetches nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
import time
from xml.etree import ElementTree

import pytest

from cofferdam.paths import ROOT

pytest.importorskip("pyte", reason="pyte is not installed here: ./inv brings .venv up to date")
PICTURES = ROOT / "docs/pictures"
_SPEC = importlib.util.spec_from_file_location("record", PICTURES / "record.py")
recorder = importlib.util.module_from_spec(_SPEC)
sys.modules["record"] = recorder
_SPEC.loader.exec_module(recorder)

WORK = """
from cofferdam.progress import Progress
progress = Progress()
assert progress.console.is_terminal
with progress.stage("boot", "box"):
    for text in ("kernel up", "user space up"):
        progress.step(text)
        progress._status._live.refresh()
print("wide 日本 end")
"""


def recorded(*lines: str):
    return recorder.record([recorder.Command(line) for line in lines])


def styles(text, word: str) -> set[str]:
    """The styles of a word in a recording."""
    start = text.plain.index(word)
    return {str(span.style) for span in text.spans if span.start >= start and span.end <= start + len(word)}


def test_what_is_redrawn_is_there_as_it_is_at_the_end(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    lines = recorded(f"{sys.executable} {tmp_path}/work.py").plain.splitlines()
    assert re.fullmatch(r"boot           done    [\d.]+ s", lines[1])
    assert lines[0].startswith("$ ") and lines[2:] == ["wide 日本 end"]


def test_a_program_sees_a_terminal_of_that_size_and_the_lines_wrap_there():
    lines = recorded("stty size; test -t 0 && test -t 2 && seq --separator=, 200 | tr -d '\\n'", "echo next").plain.splitlines()
    assert lines[1] == f"{recorder.LINES} {recorder.COLUMNS}"
    assert len(lines[2]) == recorder.COLUMNS
    assert lines[-3:] == ["", "$ echo next", "next"], "a prompt begins a line, after an empty one"


def test_nothing_scrolls_away():
    lines = recorded("seq 300").plain.splitlines()
    assert lines[1:] == [str(number) for number in range(1, 301)]


def test_colours_stay():
    text = recorded(
        "printf '\\033[33mbrown\\033[0m \\033[1;95mlight\\033[0m \\033[38;2;1;2;3mtrue\\033[0m \\033[7mturned\\033[0m plain'"
    )
    line = text.split()[1]
    assert {word: styles(line, word) for word in ("brown", "light", "true", "turned")} == {
        "brown": {"yellow"},
        "light": {"bold bright_magenta"},
        "true": {"#010203"},
        "turned": {"reverse"},
    }


@pytest.mark.parametrize(("line", "fails", "status"), [("echo why; exit 3", False, 3), ("true", True, 0)])
def test_a_command_that_ends_otherwise_than_it_has_to_is_no_picture(line, fails, status):
    with pytest.raises(recorder.WentOtherwise, match=f"ended with {status}; the terminal shows") as error:
        recorder.record([recorder.Command(line, fails)])
    assert error.value.hint
    assert status == 0 or "why" in str(error.value)


def test_what_a_command_leaves_running_is_not_waited_for():
    start = time.monotonic()
    lines = recorded("sleep 600 & echo $!").plain.splitlines()
    assert time.monotonic() - start < 300
    os.kill(int(lines[1]), signal.SIGKILL)


def test_a_session_is_a_line_for_each_command():
    text = "# why\n\n./inv boot\n! docker run --pid=host x\n"
    assert recorder.session(text) == [recorder.Command("./inv boot"), recorder.Command("docker run --pid=host x", fails=True)]


def test_the_picture_is_whole_and_names_no_other_place():
    picture = recorder.svg(recorded("printf '<a> & \\033[44mb\\033[0m\\n'; seq 20"), "A & B")
    root = ElementTree.fromstring(picture)
    words = "".join(root.itertext())
    assert [each for each in ("<a> & b", "A & B", "20") if each not in words.replace("\xa0", " ")] == []
    assert re.findall(r"https?:[^\"]*", picture) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|@font-face|url\((?!#)|href", picture)
