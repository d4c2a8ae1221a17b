"""The command line of an OCI runtime: find the verb, the container and the bundle without guessing.

A flag that takes a value swallows the next word, so the tables must know them all: a container may be *named* `create`,
a log file too. An unknown flag or verb is an error. Sources: runc(8), crun(1), go-runc.
"""

from __future__ import annotations

from cofferdam_guest.runtime.errors import UsageError

GLOBAL_VALUES = frozenset(("--log", "--log-format", "--log-level", "--root", "--criu", "--rootless", "--cgroup-manager"))
GLOBAL_FLAGS = frozenset(("--debug", "--systemd-cgroup", "--version", "-v", "--help", "-h"))

START_VALUES = frozenset(("--bundle", "-b", "--console-socket", "--pid-file", "--pidfd-socket", "--preserve-fds"))
START_FLAGS = frozenset(("--no-subreaper", "--no-new-keyring", "--detach", "-d", "--keep"))
DELETE_FLAGS = frozenset(("--force", "-f"))
EXEC_VALUES = frozenset(("--process", "-p", "--console-socket", "--pid-file", "--preserve-fds")) | frozenset(
    ("--cwd", "--env", "-e", "--user", "-u")
)
EXEC_FLAGS = frozenset(("--detach", "-d", "--tty", "-t", "--no-new-privs"))

VERBS = frozenset(
    ("create", "delete", "exec", "features", "kill", "list", "pause", "ps", "resume", "run", "start", "state", "update")
)
VERBS |= frozenset(("checkpoint", "restore"))
# a checkpoint carries namespaces and mounts that no modifier has seen, and a pivot is what confines the root
REFUSED_VERBS = frozenset(("restore", "checkpoint"))
REFUSED_FLAGS = frozenset(("--no-pivot", "--config", "-f"))

DEFAULT_ROOT = "/run/crun"


class Call:
    """One parsed command line.

    words     all arguments, as given
    at        index of the verb in `words`; len(words) without one
    verb      the verb, "" without one
    options   global and verb options by long name
    container name of the container, "" without one
    container_at   its index in `words`
    """

    __slots__ = ("at", "container", "container_at", "options", "verb", "words")

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.options: dict[str, str] = {}
        self.container = ""
        self.container_at = len(words)
        self.at = _read(words, 0, GLOBAL_VALUES, GLOBAL_FLAGS, self.options)
        self.verb = words[self.at] if self.at < len(words) else ""
        if self.verb and self.verb not in VERBS:
            raise UsageError(f"{self.verb} is not a verb of this runtime")

    @property
    def root(self) -> str:
        """The low-level runtime's state directory."""
        return self.options.get("--root", DEFAULT_ROOT).rstrip("/") or "/"

    def read_start(self) -> None:
        """Read the rest of `create` or `run`. Raises UsageError."""
        for word in self.words[self.at + 1 :]:
            if word.split("=", 1)[0] in REFUSED_FLAGS:
                raise UsageError(f"{word} is not supported")
        self._read_verb(START_VALUES, START_FLAGS)
        self.options.setdefault("--bundle", self.options.get("-b", "."))

    def read_delete(self) -> None:
        """Read the rest of `delete`. Raises UsageError."""
        self._read_verb(frozenset(), DELETE_FLAGS)

    def read_exec(self) -> None:
        """Read the rest of `exec` up to the container; the program and its arguments may follow. Raises UsageError."""
        self._read_verb(EXEC_VALUES, EXEC_FLAGS, more=True)
        if self.words[self.container_at - 1] == "--":
            raise UsageError("exec takes no -- before the container")

    def _read_verb(self, values: frozenset[str], flags: frozenset[str], *, more: bool = False) -> None:
        end = _read(self.words, self.at + 1, values, flags, self.options)
        rest = self.words[end:]
        if len(rest) != 1 and not (more and rest):
            raise UsageError(f"{self.verb} wants one container, not {len(rest)}")
        if not is_container_name(rest[0]):
            raise UsageError(f"{rest[0]!r} is not a container id")
        self.container, self.container_at = rest[0], end


def value_of(words: list[str], name: str) -> str | None:
    """Return the value of an option in a command line that could not be read; only for telling what is wrong with it."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == name:
            return following
        if word.startswith(name + "="):
            return word[len(name) + 1 :]
    return None


def is_container_name(name: str) -> bool:
    """Tell whether `name` is safe as a directory name and in the range store."""
    return (
        0 < len(name) <= 1024
        and name not in (".", "..")
        and name.isascii()
        and all(each.isalnum() or each in "_+-." for each in name)
    )


def _read(words: list[str], at: int, values: frozenset[str], flags: frozenset[str], found: dict[str, str]) -> int:
    """Read options from words[at:] into `found` and return the index of the first word that is none."""
    while at < len(words):
        word = words[at]
        if word == "--":
            return at + 1
        if not word.startswith("-") or word == "-":
            return at
        name, equals, value = word.partition("=")
        if name in values:
            if not equals:
                at += 1
                if at == len(words):
                    raise UsageError(f"{name} wants a value")
                value = words[at]
            found[name] = value
        elif name not in flags:
            raise UsageError(f"the option {name} is not known here")
        at += 1
    return at
