"""What an option depends on, read from small Kconfig trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofferdam.kernel.kconfig import annotate, dependencies, explain, symbols

TREE = """\
menuconfig NET
\tbool "Networking"
\tdepends on MMU && \\
\t\tBLOCK
\thelp
\t  config HIDDEN in a help text
\t  depends on NOTHING

config PLAIN
\tbool

if NET # a comment

config BRIDGE
\ttristate "Bridge"
\tdepends on INET
\tdepends on IPV6 || IPV6=n
\tselect STP
\thelp
\t  A bridge.

if BRIDGE
config BRIDGE_NETFILTER
\tbool
endif

config\tTABBED
\tbool

endif

config AFTER
\tbool
\tdepends on MMU
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/Kconfig").write_text(TREE, encoding="utf-8")
    (tmp_path / "Kconfig.more").write_text("config BRIDGE\n\tdepends on INET\n\tdepends on EXTRA\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NET", ["MMU && BLOCK"]),
        ("BRIDGE", ["INET", "EXTRA", "NET", "IPV6 || IPV6=n"]),
        ("BRIDGE_NETFILTER", ["NET", "BRIDGE"]),
        ("TABBED", ["NET"]),
        ("AFTER", ["MMU"]),
        ("PLAIN", []),
        ("HIDDEN", None),
        ("BRIDG", None),
    ],
)
def test_dependencies(tree: Path, name: str, expected: list[str] | None) -> None:
    assert dependencies(tree, name) == expected


def test_symbols_come_from_every_file_and_not_from_help_texts(tree: Path) -> None:
    assert symbols(tree) == {"NET", "PLAIN", "BRIDGE", "BRIDGE_NETFILTER", "TABBED", "AFTER"}


def test_values_stand_behind_the_names() -> None:
    assert annotate("INET && !PREEMPT_RT", {"INET": "y"}) == "INET [y] && !PREEMPT_RT [n]"


def test_explanations(tree: Path) -> None:
    assert explain(tree, "AFTER", {}) == "depends on MMU [n]"
    assert "no Kconfig file" in explain(tree, "HIDDEN", {})
    assert "names no dependency" in explain(tree, "PLAIN", {})
