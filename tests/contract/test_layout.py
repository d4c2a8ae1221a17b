"""The shape of the repository: sizes, reasons in first lines, and what must never be committed."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

from cofferdam.kernel.fragments import FRAGMENT_DIR
from cofferdam.paths import ROOT

LONGEST_MODULE, MEDIAN_MODULE, LONGEST_FUNCTION = 400, 160, 30
CODE = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "vm/guest/src").rglob("*.py"), ROOT / "tasks.py"])
MODULES = sorted([*CODE, *(ROOT / "tests").rglob("*.py")])
LISTS = sorted([*(ROOT / "vm").rglob("*.list"), *(ROOT / "profiles").glob("*.toml"), *FRAGMENT_DIR.glob("*.toml")])
LARGEST_FILE = 1 << 20

# Written in parts, so that this file is not among what it finds.
REGISTRIES = (
    ("deb", "debian", "org"),
    ("ftp", "debian", "org"),
    ("security", "debian", "org"),
    ("snapshot", "debian", "org"),
    ("archive", "debian", "org"),
    ("archive", "ubuntu", "com"),
    ("security", "ubuntu", "com"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry", "npmjs", "org"),
    ("crates", "io"),
    ("rubygems", "org"),
    ("proxy", "golang", "org"),
    ("registry-1", "docker", "io"),
    ("index", "docker", "io"),
    ("download", "docker", "com"),
    ("ghcr", "io"),
    ("quay", "io"),
    ("gcr", "io"),
    ("cdn", "kernel", "org"),
    ("dl-cdn", "alpinelinux", "org"),
)
REGISTRY = re.compile(
    r"(?<![\w-])(?:[\w-]+\.)*(?:" + "|".join(r"\.".join(map(re.escape, host)) for host in REGISTRIES) + r")(?![\w-])"
)
COUNTRY_MIRROR = re.compile(r"(?<![\w-])ftp\.[a-z]{2}\." + r"debian\." + "org")
PRIVATE_KEY = re.compile("-----BEGIN " + "(?:[A-Z0-9]+ )*PRIVATE KEY-----")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def tracked() -> list[Path]:
    """Files that git tracks, and those that it would with `git add .`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file() and not path.is_symlink()]


def test_no_module_is_long():
    assert {str(path): len(lines(path)) for path in MODULES if len(lines(path)) > LONGEST_MODULE} == {}


def test_most_modules_are_short():
    sizes = [len(lines(path)) for path in CODE if path.name != "__init__.py"]
    assert statistics.median(sizes) < MEDIAN_MODULE


def test_nine_functions_in_ten_are_short():
    sizes = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert sum(size < LONGEST_FUNCTION for size in sizes) >= 0.9 * len(sizes)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_list_says_why_in_its_first_line(path):
    assert re.match(r"# \S.{19,}", lines(path)[0])


@pytest.mark.parametrize("path", sorted(FRAGMENT_DIR.rglob("*.config")), ids=lambda path: path.name)
def test_a_fragment_says_why_in_its_first_line(path):
    assert re.match(r"# Why: \S.{19,}", lines(path)[0])


def test_there_is_something_to_check():
    names = {path.name for path in LISTS}
    assert {"base.list", "docker.list", "units.list", "masks.list", "default.toml", "accepted.toml"} <= names
    assert len(MODULES) > 100


def test_no_tracked_file_names_a_registry_or_mirror():
    found = {}
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        if match := REGISTRY.search(text) or COUNTRY_MIRROR.search(text):
            found[str(path.relative_to(ROOT))] = match[0]
    assert found == {}


def test_no_tracked_file_holds_a_private_key():
    assert [str(path) for path in tracked() if PRIVATE_KEY.search(path.read_bytes().decode(errors="replace"))] == []


def test_no_tracked_file_is_large():
    assert {str(path): path.stat().st_size for path in tracked() if path.stat().st_size > LARGEST_FILE} == {}


@pytest.mark.parametrize("host", [".".join(parts) for parts in REGISTRIES])
def test_the_registry_pattern_finds_what_it_is_for(host):
    for text in (host, f"https://{host}/simple", f"deb http://mirror.{host}/x", f'"{host}"', f"# see {host}."):
        assert REGISTRY.search(text), text


@pytest.mark.parametrize(
    "text", ["docker.io\ncontainerd", "org.cofferdam.ready", "io.systemd.credential", "a-pypi-org", "debian.org"]
)
def test_the_registry_pattern_leaves_the_rest(text):
    assert not REGISTRY.search(text)


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_the_key_pattern_finds_what_it_is_for(kind):
    assert PRIVATE_KEY.search("-----BEGIN " + kind + "PRIVATE" + " KEY-----")
