"""Completion in a real bash: what is offered, and a key press on a real terminal. zsh and fish where the machine has them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cofferdam.completion import SHELLS, completion_script
from cofferdam.errors import UsageError
from cofferdam.paths import ROOT
from cofferdam.profile import profile_names

BASH, FISH = shutil.which("bash"), shutil.which("fish")
needs_bash = pytest.mark.skipif(BASH is None, reason="no bash here")

# Answers the question for completion as the launcher does, and notes any other call.
LAUNCHER = f"""#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
case $1 in
--complete) cd {ROOT} && exec {sys.executable} -m invoke "$@" ;;
*) printf '%s\\n' "$*" >"$here/called.new"; mv "$here/called.new" "$here/called" ;;
esac
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A directory with a launcher and profiles of its own, and a state home with one instance."""
    made = tmp_path / "project"
    (made / "profiles").mkdir(parents=True)
    for name in ("default", "debug", "o'dd $(touch gotcha)"):
        (made / f"profiles/{name}.toml").touch()
    (made / "profiles/README.md").touch()
    (made / "inv").write_text(LAUNCHER)
    (made / "inv").chmod(0o755)
    (tmp_path / "state/instances/work").mkdir(parents=True)
    monkeypatch.setenv("COFFERDAM_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(made)
    return made


def offered(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = f'{completion_script("bash")}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cofferdam_inv; printf \'%s\\n\' "${{COMPREPLY[@]}}"'
    done = subprocess.run([str(BASH), "-c", script, "bash", *words], capture_output=True, text=True, timeout=60, check=True)
    return [line for line in done.stdout.splitlines() if line]


@needs_bash
def test_verbs_are_offered(project):
    assert {"up", "boot", "build-vm", "policy.check", "timings", "diagnose", "completion"} <= set(offered("./inv", ""))
    assert offered("./inv", "diag") == ["diagnose"]
    assert offered("./inv", "no-such-verb") == []


@needs_bash
def test_options_of_the_verb_are_offered(project):
    assert {"--profile", "--memory", "--timings"} <= set(offered("./inv", "boot", "--"))
    assert offered("./inv", "boot", "--data") == ["--data-disk"]
    assert "--memory" not in offered("./inv", "stop", "--")


@needs_bash
@pytest.mark.parametrize(
    "words", [("boot", "--profile"), ("up", "--name", "x", "--profile"), ("boot", "--profile", "="), ("profile",)]
)
def test_profiles_are_those_that_there_are(project, words):
    assert sorted(offered("./inv", *words, "")) == ["debug", "default", "o'dd $(touch gotcha)"]
    assert offered("./inv", *words, "de") == ["debug", "default"]
    (project / "sysbox").touch()
    assert offered("./inv", *words, "sysbox") == [], "neither an invented profile nor a file"
    assert not (project / "gotcha").exists()


@needs_bash
def test_the_project_s_own_profiles_are_found_from_elsewhere(project, monkeypatch):
    monkeypatch.chdir("/")
    assert sorted(offered(str(ROOT / "inv"), "boot", "--profile", "")) == sorted(profile_names())


@needs_bash
def test_other_values(project):
    assert offered("./inv", "stop", "--name", "") == ["work"]
    assert offered("./inv", "boot", "--accel", "") == ["auto", "kvm", "whpx", "hvf", "tcg"]
    assert offered("./inv", "completion", "") == list(SHELLS)
    (project / "company.json").touch()
    assert offered("./inv", "boot", "--policy", "comp") == ["company.json"]


TYPED = (
    (b"./inv boot --prof\tdeb\t--timi\t\r", "boot --profile debug --timings"),
    (b"./inv stop --name wo\t\r", "stop --name work"),
    (b"./inv policy.check comp\t\r", "policy.check company.json"),
)


@pytest.mark.parametrize(("keys", "call"), TYPED, ids=["options", "instances", "files"])
@pytest.mark.parametrize(
    ("name", "rc", "words"), [("bash", "rc", ("--rcfile", "rc")), ("zsh", ".zshrc", ())], ids=["bash", "zsh"]
)
def test_a_key_press_on_a_terminal_completes_the_launcher_of_this_directory(project, name, rc, words, keys, call):
    """What a shell makes of `./inv`, for which there is no entry by that name, is seen only here."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} here")
    (project / rc).write_text(f"{completion_script(name)}\nPS1='ready> '\n")
    (project / "company.json").touch()
    master, terminal = pty.openpty()
    env = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": "", "ZDOTDIR": str(project)}
    shell = subprocess.Popen(
        [program, *words, "-i"], stdin=terminal, stdout=terminal, stderr=terminal, env=env, start_new_session=True
    )
    os.close(terminal)
    said, deadline = b"", time.monotonic() + 120
    while not (project / "called").exists() and time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            said += os.read(master, 4096)
        if keys and b"ready> " in said:
            # Not before: what is typed while the shell starts is no line of its editor yet.
            os.write(master, keys)
            keys = b""
    shell.kill()
    shell.wait()
    os.close(master)
    assert (project / "called").exists(), f"it printed {said.decode(errors='replace')}"
    assert (project / "called").read_text() == f"{call}\n"


@pytest.mark.skipif(FISH is None, reason="no fish here")
@pytest.mark.parametrize(
    ("line", "found"),
    [("./inv diag", ["diagnose"]), ("./inv up --profile d", ["debug", "default"]), ("./inv up --profile z", [])],
)
def test_fish_offers_the_same(project, line, found):
    (project / "inv.fish").write_text(completion_script("fish"))
    command = f"source inv.fish; complete -C '{line}'"
    done = subprocess.run([str(FISH), "--no-config", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.split()) == found


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_parses_and_the_verb_prints_it(shell):
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=completion_script(shell), text=True, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "completion", shell], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == completion_script(shell)


def test_another_shell_is_an_error_that_names_those_there_are():
    with pytest.raises(UsageError, match="no completion for `tcsh`") as error:
        completion_script("tcsh")
    assert "bash, zsh, fish" in error.value.hint


def test_a_key_press_neither_installs_nor_builds(tmp_path):
    """A launcher whose environment is not made yet, on a machine without any program."""
    launcher = tmp_path / "inv"
    shutil.copy(ROOT / "inv", launcher)
    env = {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, launcher, "--complete", "--", "inv", ""], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["inv"]
