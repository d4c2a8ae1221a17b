"""What the runtime wrapper loads: it starts once per container action, so each module costs every user, every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cofferdam.paths import ROOT

GUEST = ROOT / "vm/guest/src"
TOO_SLOW = {"argparse", "logging", "dataclasses", "pathlib", "subprocess", "typing", "re", "json", "enum", "socket", "contextlib"}

# `from __future__`, and what `import os` brings beyond what the interpreter itself has loaded.
OS = {"__future__", "_collections_abc", "_stat", "genericpath", "os", "os.path", "posixpath", "stat"}
C_TYPES = {"_ctypes", "_struct", "ctypes", "ctypes._endian", "struct", "types"}
C_TYPES |= {"_types"} if sys.version_info >= (3, 14) else set()

MAIN = {"cofferdam_guest", *(f"cofferdam_guest.runtime{name}" for name in ("", ".main", ".argv", ".errors"))}
SECCOMP = {"cofferdam_guest.linux", "cofferdam_guest.linux.libc", "cofferdam_guest.linux.seccomp", *C_TYPES}
JSON = {"cofferdam_guest.config", "cofferdam_guest.config.jsonlite", "_json"}
STORE = {f"cofferdam_guest.idrange{name}" for name in ("", ".pool", ".store")} | {"fcntl"}
EXECUTION = {
    "cofferdam_guest.runtime.execution",
    "cofferdam_guest.runtime.modifiers",
    "cofferdam_guest.runtime.modifiers.envelope",
}

HEAD = f"""
import sys
sys.path.insert(0, {str(GUEST)!r})
before = set(sys.modules)
import os

def done(*_, **__):
    print("\\n".join(sorted(set(sys.modules) - before)), flush=True)
    os._exit(0)

os.execv = done
words = sys.argv[1:]
"""
VERB = "from cofferdam_guest.runtime.main import main\nsys.exit(main(words) or 7)\n"


def loaded(body: str, *words: str) -> set[str]:
    """Modules that are loaded at the moment the program would become the low-level runtime."""
    argv = [sys.executable, "-IS", "-c", HEAD + body, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("words", [["state", "box"], ["--root", "/r", "start", "box"], ["kill", "box", "9"], ["--version"]])
def test_other_verbs_load_the_command_line_only(words):
    assert loaded(VERB, *words) == OS | MAIN


def test_exec_loads_what_confines_a_process(tmp_path: Path):
    (tmp_path / "box").mkdir()
    for path in (tmp_path / "box/config.json", tmp_path / "process.json"):
        path.write_text('{"process": {"capabilities": {"bounding": ["CAP_CHOWN"]}}}')
    # Installing a filter needs privileges and is not what this is about; that it happens before the exec is.
    body = f"""
from cofferdam_guest.linux import seccomp
installed = []
seccomp.install = lambda: installed.append(True)
os.execv = lambda *_: done() if installed else None
{VERB}"""
    words = ["--root", str(tmp_path), "exec", "--process", str(tmp_path / "process.json"), "box"]
    assert loaded(body, *words) == OS | MAIN | SECCOMP | JSON | EXECUTION


def test_delete_of_a_living_container_loads_the_command_line_only(tmp_path: Path):
    (tmp_path / "box").mkdir()
    body = "os.posix_spawn = lambda *_: 0\nos.waitpid = lambda *_: (0, 0)\nsys.exit = done\n" + VERB
    assert loaded(body, "--root", str(tmp_path), "delete", "box") == OS | MAIN


def test_delete_of_a_gone_container_loads_the_id_store(tmp_path: Path):
    # The store's first act is to make its directory: stop there.
    body = "os.posix_spawn = lambda *_: 0\nos.waitpid = lambda *_: (0, 0)\nos.makedirs = done\n" + VERB
    found = loaded(body, "--root", str(tmp_path), "delete", "--force", "box")
    assert found == OS | MAIN | STORE | {"cofferdam_guest.runtime.paths", "cofferdam_guest.runtime.sweep"}


def test_create_loads_the_engine_and_nothing_slow():
    body = "from cofferdam_guest.runtime import main, start, transform\ndone()"
    found = loaded(body)
    own = {name for name in found if name.startswith("cofferdam_guest")}
    assert found - own == OS | C_TYPES | {"fcntl"}
    modifiers = {
        f"cofferdam_guest.runtime.modifiers.{path.stem}"
        for path in (GUEST / "cofferdam_guest/runtime/modifiers").glob("[!_]*.py")
    }
    assert modifiers <= own, "a modifier that is in no list does nothing"
    assert not [name for name in own if name.startswith("cofferdam_guest.agent")]
    assert not {"cofferdam_guest.runtime.execution", "cofferdam_guest.runtime.events"} & own


def test_reading_a_specification_does_not_load_json():
    body = "from cofferdam_guest.config import jsonlite\nassert jsonlite.loads(jsonlite.dumps({'a': [1, 2.5, None]})) == {'a': [1, 2.5, None]}\ndone()"
    assert loaded(body) == OS | JSON | {"cofferdam_guest"}


def test_nothing_slow_is_in_any_of_these_sets():
    assert not TOO_SLOW & (OS | C_TYPES | MAIN | SECCOMP | JSON | STORE | EXECUTION)


def test_package_files_of_the_guest_are_empty():
    files = list(GUEST.rglob("__init__.py"))
    assert len(files) >= 6
    assert [str(path) for path in files if path.stat().st_size] == []
