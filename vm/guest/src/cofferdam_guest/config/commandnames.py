"""What the command list of a Docker socket mount may hold.

Names are those that `docker --help` shows, and the six group wildcards of Docker's documentation. Which request belongs to
which name is not decided here.
"""

from __future__ import annotations

import difflib

GROUPS = ("build*", "container*", "image*", "network*", "system*", "volume*")
"""The wildcards: everything below `docker container`, and so on."""

NAMES = (
    *("attach", "bake", "build", "builder", "buildx", "checkpoint", "commit", "config", "cp", "create", "diff", "events"),
    *("exec", "export", "history", "images", "import", "info", "inspect", "kill", "load", "login", "logs", "node", "pause"),
    *("port", "ps", "pull", "push", "rename", "restart", "rm", "rmi", "run", "save", "search", "secret", "service", "stack"),
    *("start", "stats", "stop", "swarm", "tag", "top", "unpause", "update", "version", "wait"),
)
"""Commands that ask the engine for something. Those with commands below them and no wildcard (`swarm`, `node`, `service`,
`stack`, `secret`, `config`, `checkpoint`, `builder`, `buildx`) stand for all of these."""

CLIENT_ONLY = ("completion", "context", "logout")
"""Commands that never reach an engine: allowed in a list, without effect."""

UNSUPPORTED = (
    *("compose", "dev", "extension", "feedback", "init", "manifest", "plugin", "plugins", "sbom", "scan", "scout", "trust"),
)
"""Commands that Docker's documentation excludes from command lists: programs beside the engine's API."""

_BARE_GROUPS = {group[:-1]: group for group in GROUPS if group != "build*"}


def error_of(name: str) -> str:
    """Why a list cannot hold this name; empty when it can."""
    if name in NAMES or name in GROUPS or name in CLIENT_ONLY:
        return ""
    if name.rstrip("*") in UNSUPPORTED:
        return f'"{name}" is not supported in a command list; it is no single command of the engine'
    if name in _BARE_GROUPS:
        return f'"{name}" is a group; write "{_BARE_GROUPS[name]}" for everything below `docker {name}`, or name single commands'
    if "*" in name:
        return f'"{name}" is not one of the wildcards: {" ".join(GROUPS)}'
    near = difflib.get_close_matches(name.lower(), [*NAMES, *GROUPS, *CLIENT_ONLY], 1, cutoff=0.6)
    tail = f'; did you mean "{near[0]}"?' if near else "; `docker --help` shows the names"
    return f'"{name}" is not a command{tail}'


def warning_of(name: str) -> str:
    """What a list that holds this name should know; empty when nothing."""
    return f'"{name}" never reaches the engine: listing it has no effect' if name in CLIENT_ONLY else ""
