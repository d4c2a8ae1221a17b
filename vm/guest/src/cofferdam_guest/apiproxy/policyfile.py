"""The effective policy, read once at start. Without one that can be used everything is refused, and says why."""

from __future__ import annotations

from cofferdam_guest.config.policy import Policy, PolicyError, deny_all, from_json

PATH = "/run/cofferdam/policy/effective.json"
_LIMIT = 4 << 20


def load(path: str = PATH) -> Policy:
    """The policy in a file; one that denies everything, with the reason, when it cannot be used."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise PolicyError("it is larger than a policy can be")
        return from_json(data)
    except OSError as error:
        return deny_all(f"{path}: {error.strerror}")
    except PolicyError as error:
        return deny_all(f"{path}: {error}")
