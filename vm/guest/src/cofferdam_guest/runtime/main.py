"""The OCI runtime that dockerd, containerd's shim and BuildKit execute as `runc`.

`create` and `run` are transformed, `exec` is confined to what the container has, `delete` also releases the id range, everything
else goes to the low-level runtime as it is.
On any error nothing is executed.
"""

from __future__ import annotations

import os
import sys

from cofferdam_guest.runtime import argv
from cofferdam_guest.runtime.argv import REFUSED_VERBS, Call
from cofferdam_guest.runtime.errors import Refusal, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOW_LEVEL = "/usr/bin/crun"


def main(words: list[str]) -> int:
    """Act on the command line `words` (without the program's name) and return the exit status, if it returns at all."""
    log = None
    try:
        call = Call(words)
        log = call.options.get("--log")
        if call.verb in GUARDED:
            return _guarded(call, GUARDED[call.verb], log)
        if call.verb in REFUSED_VERBS:
            raise UsageError(f"{call.verb} is not supported: a checkpoint would bypass isolation")
        return _execute(words)
    except UsageError as error:
        from cofferdam_guest.runtime import events

        events.tell_user(str(error), log or argv.value_of(words, "--log"))
        return 1


def _execute(words: list[str]) -> int:
    os.execv(LOW_LEVEL, [LOW_LEVEL, *words])


def _start(call: Call) -> int:
    """Transform the specification and become the low-level runtime."""
    from cofferdam_guest.runtime import start

    call.read_start()
    with start.prepared(call) as config:
        at = call.at + 1
        return _execute([*call.words[:at], "--config", config, *call.words[at:]])


def _exec(call: Call) -> int:
    """Confine a further process of a container and become the low-level runtime."""
    from cofferdam_guest.linux import seccomp
    from cofferdam_guest.runtime import execution

    call.read_exec()
    words = execution.confined(call)
    seccomp.install()
    return _execute(words)


def _guarded(call: Call, act: Callable[[Call], int], log: str | None) -> int:
    """Run `act`; on any error tell the user and the journal, and execute nothing."""
    try:
        return act(call)
    except (Refusal, UsageError) as error:
        rule, reason = getattr(error, "rule", "usage"), str(error)
    except Exception as error:  # fail closed, whatever it was, and say where
        rule, reason = "internal", f"isolation could not be set up: {type(error).__name__}: {error}{_place(error)}"
    from cofferdam_guest.runtime import events

    events.refused(rule, reason, call.container or "unknown", call.options.get("--bundle", ""))
    events.tell_user(reason, log)
    return 1


def _place(error: BaseException) -> str:
    """Name the innermost source line of an unexpected error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"


def _delete(call: Call) -> int:
    """Delete, then release the range if the container is gone: also after a --force on one that never came to be.

    A range that could not be released stays taken: a later claim drops it when it sees that its container is gone.
    """
    call.read_delete()
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(LOW_LEVEL, [LOW_LEVEL, *call.words], os.environ), 0)[1])
    if not os.path.exists(f"{call.root}/{call.container}"):
        from cofferdam_guest.idrange.store import Store
        from cofferdam_guest.runtime import sweep

        Store().release(call.root, call.container)
        sweep.sweep()
    return status if status >= 0 else 128 - status


GUARDED = {"create": _start, "run": _start, "exec": _exec, "delete": _delete}


def run() -> None:
    """Entry point of bin/runc."""
    sys.exit(main(sys.argv[1:]))
