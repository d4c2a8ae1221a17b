"""The modifiers, in order: first those that only judge the specification, then those that take resources."""

from __future__ import annotations

from cofferdam_guest.runtime.errors import Refusal
from cofferdam_guest.runtime.modifiers import (
    binds,
    cgroup,
    dev,
    devices,
    envelope,
    hooks,
    identity,
    namespaces,
    process,
    rootfs,
    seccomp,
    stores,
    sysctl,
    view,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cofferdam_guest.runtime.context import Context

MODIFIERS = (envelope, namespaces, hooks, cgroup, devices, process, sysctl, seccomp, identity, rootfs, dev, stores, binds, view)


def apply(spec: dict[str, Any], context: Context) -> None:
    """Turn `spec` into an isolated one, in place. Raises Refusal."""
    for modifier in MODIFIERS:
        try:
            modifier.modify(spec, context)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            # a specification of another shape than dockerd's: not understood means not started
            name = modifier.__name__.rpartition(".")[2]
            raise Refusal("spec", f"not understood ({name}): {type(error).__name__}: {error}") from error
