"""The one place that starts processes. Commands are argument lists, never shell strings."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cofferdam.errors import BuildError

Argument = str | Path
_TAIL_LINES = 12
_TIDY_SECONDS = 15
# On Windows: Ctrl+C on this terminal is not for what outlives the call, and no window appears for it. 0 elsewhere.
_APART = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)


@dataclass(frozen=True)
class Result:
    """A finished command: its arguments, exit status and, when captured, its output as text."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str = ""
    stderr: str = ""


class CommandError(BuildError):
    """A command ended with a non-zero status, or could not be started; holds its `Result`."""

    def __init__(self, result: Result, *, tail: str = "", log: Path | None = None) -> None:
        message = f"`{' '.join(result.argv[:6])}{' …' if len(result.argv) > 6 else ''}` ended with status {result.returncode}"
        super().__init__(f"{message}\n{tail}" if tail else message, log=log, hint="See the log." if log else "")
        self.result = result
        self.tail = tail


def _environment(env: Mapping[str, str] | None) -> dict[str, str] | None:
    return {**os.environ, **env} if env is not None else None


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_TAIL_LINES:])


def run(
    argv: Sequence[Argument],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    log: Path | None = None,
    capture: bool = False,
    check: bool = True,
    timeout: float | None = None,
) -> Result:
    """Run a command to its end.

    Args:
        argv: program and arguments.
        env: variables added to this process's environment.
        input: bytes for standard input; none means an empty one.
        log: file that standard output and error are appended to.
        capture: return the output in the result (as UTF-8, with replacement).
        check: raise when the status is not 0.
        timeout: seconds after which the command is killed.

    Raises:
        CommandError: with `check`, on a non-zero status; always when the program is missing (status 127) or times out (124).
    """
    words = tuple(str(word) for word in argv)
    start = log.stat().st_size if log and log.exists() else 0
    with open(log or os.devnull, "ab") as sink:
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=_environment(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if capture else (sink if log else None),
                stderr=subprocess.PIPE if capture else (subprocess.STDOUT if log else None),
            )
            raw_out, raw_err = _communicate(process, input or b"", timeout)
        except FileNotFoundError as error:
            raise CommandError(Result(words, 127), tail=f"{error.filename}: not found", log=log) from error
        except subprocess.TimeoutExpired as error:
            raise CommandError(Result(words, 124), tail=f"no end after {timeout} s", log=log) from error
        out, err = (raw_out or b"").decode(errors="replace"), (raw_err or b"").decode(errors="replace")
        if log and capture:
            sink.write((out + err).encode())
    result = Result(words, process.returncode, out, err)
    if check and process.returncode != 0:
        text = err or out
        if not text and log:
            with open(log, "rb") as source:
                source.seek(start)
                text = source.read().decode(errors="replace")
        raise CommandError(result, tail=_last_lines(text), log=log)
    return result


def _communicate(process: subprocess.Popen[bytes], input: bytes, timeout: float | None) -> tuple[bytes | None, bytes | None]:
    """Feed a command and wait for its end; one that does not end by itself on an interrupt or in time is ended."""
    with process:
        try:
            return process.communicate(input, timeout)
        except KeyboardInterrupt:
            # The terminal has told the command as well: what it has half made is its own to remove.
            for end in (process.terminate, process.kill):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_TIDY_SECONDS)
                    break
                end()
            raise
        except BaseException:
            process.kill()
            raise


def spawn(
    argv: Sequence[Argument],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a command that outlives the call; the caller owns the returned process."""
    words = [str(word) for word in argv]
    return subprocess.Popen(
        words,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=_environment(env),
        pass_fds=pass_fds,
        start_new_session=new_session,
        creationflags=_APART if new_session else 0,
    )


def interactive(argv: Sequence[Argument], *, env: Mapping[str, str] | None = None) -> int:
    """Run a command on this terminal and return its exit status."""
    return subprocess.call([str(word) for word in argv], env=_environment(env))


PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
Process = subprocess.Popen
