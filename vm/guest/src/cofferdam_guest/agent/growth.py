"""The data disk, grown while the machine runs: a program does it, the agent goes on listening, and the host hears how it went."""

import os

PROGRAM = "/usr/lib/cofferdam/data-disk"
_LONGEST_NAME = 64
_LARGEST = 2**63


class Growth:
    """One enlargement: its process, and what that has printed so far."""

    def __init__(self, size: int) -> None:
        self.output, theirs = os.pipe()
        self._said = b""
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, theirs, 2)]
        try:
            self._pid = os.posix_spawn(
                PROGRAM, [PROGRAM, "grow", str(size)], {"PATH": "/usr/sbin:/usr/bin"}, file_actions=actions
            )
        except OSError:
            os.close(self.output)
            raise
        finally:
            os.close(theirs)

    def read(self) -> dict[str, object] | None:
        """Read on; the fields of the answer once the program has ended: `bytes` of the file system, or `error`."""
        data = os.read(self.output, 4096)
        self._said = (self._said + data)[-4096:]
        if data:
            return None
        os.close(self.output)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        lines = self._said.decode(errors="replace").split("\n")
        text = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if status == 0 and text.isdecimal():
            return {"bytes": int(text)}
        return {"error": text or f"`{PROGRAM}` ended with status {status}"}


class Growths:
    """The enlargements that the host has asked for, each under a name of the host's choice.

    The host asks again under the same name when its line was cut: then nothing is done twice, and it hears the answer again.
    """

    def __init__(self) -> None:
        self._running: dict[str, Growth] = {}
        self._latest: tuple[str, dict[str, object]] | None = None

    def ask(self, name: object, size: object) -> dict[str, object] | None:
        """Begin one; the answer's fields when it is known at once. What is no name and size is ignored."""
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            return None
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < _LARGEST or name in self._running:
            return None
        if self._latest is not None and self._latest[0] == name:
            return self._latest[1]
        try:
            self._running[name] = Growth(size)
        except OSError as error:
            return self._answer(name, {"error": f"`{PROGRAM}` cannot be started: {error.strerror}"})
        return None

    @property
    def outputs(self) -> list[int]:
        """Descriptors to wait for: readable when there is something for `read`."""
        return [growth.output for growth in self._running.values()]

    def read(self, output: int) -> dict[str, object] | None:
        """Read on from one of the descriptors; the answer's fields when that one has ended."""
        name, growth = next((name, growth) for name, growth in self._running.items() if growth.output == output)
        found = growth.read()
        if found is None:
            return None
        del self._running[name]
        return self._answer(name, found)

    def _answer(self, name: str, found: dict[str, object]) -> dict[str, object]:
        self._latest = name, {"id": name, **found}
        return self._latest[1]
