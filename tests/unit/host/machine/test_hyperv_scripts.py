"""The scripts for Hyper-V: parsed as PowerShell, compared with stored ones, and deaf to what is in names.

`COFFERDAM_GOLDEN=write` writes the stored ones anew; look at the difference before committing it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import jinja2
import pytest
import tree_sitter
import tree_sitter_powershell
from hypothesis import given, settings
from hypothesis import strategies as st

from cofferdam.errors import UsageError
from cofferdam.machine.hyperv import scripts
from cofferdam.machine.hyperv.quoting import Literal, comment, quoted, render, whole
from cofferdam.machine.hyperv.scripts import Machine

GOLDEN = Path(__file__).parent / "golden-powershell"
HOME = PureWindowsPath("C:/Users/a b/.local/state/cofferdam/instances/work")
MACHINE = Machine(
    name="cofferdam-work",
    mark=f"Cofferdam instance {HOME}",
    image=PureWindowsPath("D:/images/cofferdam-0.1.0-default.vhdx"),
    folder=HOME / "hyperv",
    cpus=4,
    memory=2048,
    data_disk=20 * 2**30,
)
SCRIPTS = {
    "boot": lambda machine: scripts.boot_script(machine),
    "stop": lambda machine: scripts.stop_script(machine, force=False),
    "stop-force": lambda machine: scripts.stop_script(machine, force=True),
    "state": lambda machine: scripts.state_script(machine),
    "probe": lambda machine: scripts.probe_script(),
    "network": lambda machine: scripts.network_script(),
}
HOSTILE = [
    "it's",
    "a'; Remove-Item C:\\ -Recurse; '",
    "\u2018; calc; \u2019",
    "\u201a\u201b''",
    "$(calc)",
    "$env:PATH",
    "`n`0",
    '"; calc; "',
    "a\\",
    "#>",
    "@'",
    "{{ image }}",
    "ä ö 日本語 🐳",
    "%PATH%",
    "-Force",
    "",
]
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
QUOTES = "'\u2018\u2019\u201a\u201b"


def nodes(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def faults(script: str) -> list[str]:
    """What the parser does not understand."""
    found = nodes(PARSER.parse(script.encode()).root_node)
    return [f"line {node.start_point[0] + 1}: {node.text!r}" for node in found if node.type == "ERROR" or node.is_missing]


def commands(script: str) -> list[str]:
    """Names of the commands that a script calls."""
    found = nodes(PARSER.parse(script.encode()).root_node)
    return [node.text.decode() for node in found if node.type == "command_name" and node.text]


def literal(text: str) -> tuple[str, str]:
    """The value of a text in single quotes as PowerShell reads it, and what follows it (its tokenizer: any of five quotes ends it)."""
    assert text[0] in QUOTES
    value, at = "", 1
    while text[at] not in QUOTES or text[at + 1 : at + 2] in [*QUOTES]:
        at += text[at] in QUOTES
        value += text[at]
        at += 1
    return value, text[at + 1 :]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_are_the_stored_ones(name):
    made, path = SCRIPTS[name](MACHINE), GOLDEN / f"{name}.ps1"
    if os.environ.get("COFFERDAM_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")
    assert faults(made) == []


def test_no_stored_script_is_left_over():
    assert {path.stem for path in GOLDEN.iterdir()} == set(SCRIPTS)


@pytest.mark.parametrize("broken", ["if ($a { b }", "$a = 'x", "foreach ($a in ) {", "Get-VM | "])
def test_the_parser_finds_faults(broken):
    assert faults(broken)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_nothing_in_a_name_is_taken_for_script(name, text):
    folder = HOME / (text or "x")
    hostile = dataclasses.replace(MACHINE, mark=text, image=folder / "a.vhdx", folder=folder)
    made = SCRIPTS[name](hostile)
    # A typographic quote is an ordinary character for this parser, and a pair of them is one for PowerShell.
    plain = made.translate({ord(char): "_" for char in QUOTES[1:]})
    assert faults(plain) == []
    assert commands(plain) == commands(SCRIPTS[name](MACHINE))


@settings(deadline=None)
@given(st.text(st.sampled_from(QUOTES + "a;$`") | st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_a_literal_means_its_text_and_ends_where_it_ends(text):
    assert literal(quoted(text) + " -Force") == (text, " -Force")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_literal_means_its_text(text):
    assert literal(quoted(text) + "; calc") == (text, "; calc")


@settings(deadline=None)
@given(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))
def test_what_a_script_cannot_hold_is_refused(char):
    for make in (quoted, comment):
        with pytest.raises(UsageError, match=f"U\\+{ord(char):04X}") as error:
            make(f"a{char}b")
        assert error.value.hint


def test_a_new_line_does_not_end_a_comment():
    assert unicodedata.category("\n") == "Cc"
    with pytest.raises(UsageError):
        scripts.state_script(dataclasses.replace(MACHINE, name="work\ncalc"))


@pytest.mark.parametrize("value", [-1, 1.5, "1", True, None])
def test_a_number_is_a_number(value):
    with pytest.raises(ValueError, match="whole number"):
        whole(value)
    assert whole(0) == "0"


def test_a_template_puts_nothing_in_unquoted(monkeypatch):
    templates = {
        "bad.ps1.j2": "{{ name }}",
        "good.ps1.j2": "{{ name | quoted }}",
        "other.ps1.j2": "{{ lost | quoted }}",
        "none.ps1.j2": "{{ none | quoted }}",
    }
    monkeypatch.setattr("cofferdam.machine.hyperv.quoting._ENVIRONMENT.loader", jinja2.DictLoader(templates))
    assert render("good", name="a'b") == "'a''b'"
    with pytest.raises(TypeError, match="without quoting"):
        render("bad", name="calc")
    with pytest.raises(jinja2.UndefinedError):
        render("other", name="calc")
    with pytest.raises(TypeError, match="no text"):
        render("none", name="calc")
    assert isinstance(quoted("a"), Literal)


def test_what_the_machine_is():
    made = scripts.boot_script(MACHINE)
    for words in (
        "-Generation 2",
        "-EnableSecureBoot Off -BootOrder $first",
        "CheckpointType = 'Disabled'",
        "-Differencing",
        "-SizeBytes 21474836480 -Dynamic",
        "-MinimumBytes 536870912 -StartupBytes 2147483648 -MaximumBytes 2147483648",
        "-MacAddressSpoofing Off -DhcpGuard On -RouterGuard On",
        r"-Path '\\.\pipe\cofferdam-work'",
    ):
        assert words in made
    assert "-MinimumBytes 268435456 -StartupBytes 268435456" in scripts.boot_script(dataclasses.replace(MACHINE, memory=256))


@pytest.mark.parametrize("name", ["boot", "stop", "stop-force", "state"])
def test_only_a_machine_with_our_mark_is_touched(name):
    made = SCRIPTS[name](MACHINE)
    assert f"$mark = {quoted(MACHINE.mark)}" in made
    assert re.search(r"Notes (-ne|-EQ -Value) \$mark", made)


def test_only_the_network_needs_an_administrator():
    assert [name for name, make in sorted(SCRIPTS.items()) if "#Requires -RunAsAdministrator" in make(MACHINE)] == ["network"]
