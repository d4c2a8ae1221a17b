"""The documents say what the code does: rules, commands and links."""

from __future__ import annotations

import ast
import re

import pytest

from cofferdam.paths import ROOT
from cofferdam_guest.apiproxy.commands import COMMANDS
from cofferdam_guest.apiproxy.routetable import ROUTES

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PICTURES = sorted([*(DOCS / "pictures").glob("*.svg"), *(DOCS / "pictures").glob("*.png")])
LARGEST_PICTURE = 150 * 1000
PROXY = ROOT / "vm/guest/src/cofferdam_guest/apiproxy"
# which argument of these calls is the rule
RULE_ARGUMENT = {"Denied": 1, "refusal": 1, "policy": 0, "malformed": 0, "spec": 0, "unsupported": 0}
REQUESTS = {f"{route.method} {re.sub(r'{[^}]*}', '…', route.template)}": route.id for route in ROUTES} | {
    "POST /images/create?fromImage=…": "ImagePull",
    "POST /images/create?fromSrc=…": "ImageImport",
}


def rows(page: str, begin: str, end: str) -> list[list[str]]:
    """The cells of all table rows between two marks, headings left out."""
    text = (DOCS / page).read_text(encoding="utf-8")
    lines = text.split(f"<!-- {begin}", 1)[1].split(f"<!-- {end}", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]


def rules_of_the_proxy() -> set[str]:
    """The rule of every refusal in the proxy's code."""
    found = set()
    for path in PROXY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                index = RULE_ARGUMENT.get(name)
                if index is not None and len(node.args) > 1 and isinstance(rule := node.args[index], ast.Constant):
                    found.add(str(rule.value))
    return found


def requests(cell: str) -> set[str]:
    """The route ids that a cell of the command table names; a command's name stands for its own."""
    ids: set[str] = set()
    for item in re.findall(r"`([^`]+)`", cell):
        ids |= {REQUESTS[item]} if item in REQUESTS else set(COMMANDS[item].own)
    return ids


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}


def test_every_rule_of_the_proxy_is_explained_and_no_other():
    documented = [row[0].strip("`") for row in rows("api-proxy.md", "rules:", "end of rules")]
    assert len(documented) == len(set(documented))
    assert set(documented) == rules_of_the_proxy()


def test_every_rule_of_the_proxy_has_its_texts_among_the_messages():
    messages = (DOCS / "messages.md").read_text(encoding="utf-8")
    assert {rule for rule in rules_of_the_proxy() if f"| `{rule}` |" not in messages} == set()
    texts = [text for row in rows("api-proxy.md", "rules:", "end of rules") for text in re.findall(r"`([^`]+)`", row[2])]
    assert [text for text in texts if text.removesuffix("(…)") not in messages] == []


def test_the_table_of_commands_is_what_the_proxy_follows():
    table = {}
    for names, own, needs in rows("socket-mounts.md", "commands:", "end of commands"):
        table |= {name: (requests(own), requests(needs)) for name in re.findall(r"`([^`]+)`", names)}
    assert table == {name: (set(command.own), set(command.needs)) for name, command in COMMANDS.items()}


def test_every_decision_is_in_the_list_of_decisions():
    listed = set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (DOCS / "adr/README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in (DOCS / "adr").glob("[0-9]*.md")}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_small_shown_and_tells_nothing_of_where_it_was_made(picture):
    assert picture.stat().st_size < LARGEST_PICTURE
    assert any(f"docs/pictures/{picture.name}" in page.read_text(encoding="utf-8") for page in PAGES)
    if picture.suffix == ".svg":
        text = picture.read_text(encoding="utf-8")
        assert re.findall(r"\w+://[^\"]*", text.replace("tcp://127.0.0.1", "")) == ["http://www.w3.org/2000/svg"], (
            "it fetches nothing"
        )
        assert not re.search(r"@import|@font-face|url\((?!#)|href|/(?:root|tmp)/", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []
