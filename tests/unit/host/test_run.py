"""The process runner: output, logs and failures."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cofferdam.run import CommandError, run


def test_capture_and_log(tmp_path):
    log = tmp_path / "log"
    assert run(["sh", "-c", "echo out; echo err >&2"], capture=True, log=log).stdout == "out\n"
    assert "err" in log.read_text()


def test_failure_names_command_status_and_last_lines(tmp_path):
    with pytest.raises(CommandError, match=r"status 3\nlast words"):
        run(["sh", "-c", "echo last words; exit 3"], log=tmp_path / "log")


def test_missing_program_and_time_out():
    with pytest.raises(CommandError, match="status 127"):
        run(["no-such-program-here"])
    with pytest.raises(CommandError, match="status 124"):
        run(["sleep", "20"], timeout=0.1)


def test_no_shell_is_involved():
    assert run(["echo", "$HOME; ls"], capture=True).stdout == "$HOME; ls\n"


def test_an_interrupted_command_may_tidy_up(tmp_path):
    """Ctrl-C reaches the command and us alike; we wait for what it does about it."""
    made, ready = tmp_path / "made", tmp_path / "ready"
    script = f"trap 'sleep 0.5; rm {made}; exit 1' INT; : >{made}; : >{ready}; while :; do sleep 0.1; done"
    code = f"from cofferdam.run import run\nrun(['sh', '-c', {script!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not ready.exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert b"KeyboardInterrupt" in errors
    assert not made.exists()
