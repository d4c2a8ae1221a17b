"""From the image's settings and those given at boot to the policy that holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cofferdam_guest.config.admin import CONTAINERS_PROXY, PROXY, AdminSettings, Setting
from cofferdam_guest.config.policy import Policy


@dataclass(frozen=True)
class Effective:
    """The policy, and what of the files did not come to pass.

    Attributes:
        policy: what holds.
        ignored: names of the settings given at boot that the image has locked with another value.
        notes: what else to tell, a line each.
    """

    policy: Policy
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def effective(baked: AdminSettings | None, boot: AdminSettings | None = None) -> Effective:
    """Join the two files: a setting that the image locks stays, any other is the boot's when the boot's file has it.

    Args:
        baked: the image's file; none only where no image is asked about.
        boot: the file handed over at boot, if any.
    """
    first = baked.settings if baked else {}
    second = boot.settings if boot else {}
    held = {name for name, setting in first.items() if setting.locked}
    if PROXY in held and CONTAINERS_PROXY not in first:
        # Where the image says nothing of its own for containers, its locked `proxy` is the engine's.
        held.add(CONTAINERS_PROXY)
    chosen = {**first, **{name: setting for name, setting in second.items() if name not in held}}
    ignored = tuple(sorted(name for name in held & set(second) if name not in first or second[name].value != first[name].value))
    notes = [f"{name}: the value given at boot is ignored, the image locks this setting" for name in ignored]
    values = {key: value for name, setting in chosen.items() if name not in _PROXIES for key, value in setting.value.items()}
    values |= _proxies(chosen, notes)
    sources = tuple(name for name, given in (("image", baked), ("boot", boot)) if given is not None)
    return Effective(Policy(sources=sources, **values), ignored, tuple(notes))


_PROXIES = (CONTAINERS_PROXY, PROXY)


def _proxies(chosen: dict[str, Setting], notes: list[str]) -> dict[str, Any]:
    """The engine's proxies; without `containersProxy` those of `proxy`. What says "no way out" closes every registry."""
    for name in _PROXIES:
        if name in chosen:
            value = chosen[name].value
            if not value["blocked"]:
                return {"proxies": value["proxies"]}
            notes.append(value["blocked"])
            return {"proxies": {}, "registries": ()}
    return {}
