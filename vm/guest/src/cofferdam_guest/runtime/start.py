"""From a bundle to a private, isolated copy of its specification."""

from __future__ import annotations

import os

from cofferdam_guest.config import engine
from cofferdam_guest.idrange.store import Store
from cofferdam_guest.linux import libc, mounts, seccomp
from cofferdam_guest.runtime import bundle, transform
from cofferdam_guest.runtime.context import Context
from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.paths import STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cofferdam_guest.runtime.argv import Call


class prepared:
    """Context manager: inside it the process is ready to become the low-level runtime with the returned configuration.

    Leaving it at all means that it did not, so everything is undone then.
    """

    def __init__(self, call: Call) -> None:
        try:
            settings = engine.load()
        except engine.SettingsError as error:
            raise Refusal("settings", f"the isolation engine has no usable settings: {error}") from error
        self._context = Context(settings, Store(), call.root, call.container, call.options["--bundle"])

    def __enter__(self) -> str:
        try:
            return _prepare(self._context)
        except BaseException:
            self._context.undo()
            raise

    def __exit__(self, *_: object) -> None:
        self._context.undo()


def _prepare(context: Context) -> str:
    spec = bundle.load(context.bundle)
    _enter_private_mounts()
    _make_stage()
    transform.apply(spec, context)
    config = STAGE + "/config.json"
    bundle.store(spec, config)
    seccomp.install()
    return config


def _enter_private_mounts() -> None:
    """From here on nothing that is mounted can be seen in the VM; what the VM unmounts goes away here too."""
    libc.unshare(libc.CLONE_NEWNS)
    mounts.make_slave()


def _make_stage() -> None:
    os.makedirs(STAGE, 0o711, exist_ok=True)
    attributes = mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC
    stage = mounts.create("tmpfs", [("source", "cofferdam"), ("mode", "0711"), ("size", "16m")], attributes)
    target = mounts.open_path(STAGE)
    mounts.attach(stage, target)
    os.close(target)
    os.close(stage)
