"""How the tests are spread over pytest-xdist's workers: each VM stays with one worker, all else goes wherever there is time."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import settings

_VM = re.compile(r"[\[-](debug|baseline)[-\]]")

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")


def group_of(nodeid: str) -> str:
    """What runs in one worker, in order: the tests of one VM, a module's that boot machines for themselves, the browser's, or a single one."""
    if nodeid.partition("::")[0].endswith("/test_browser.py"):
        return "browser"
    if not nodeid.startswith("tests/image/"):
        return nodeid
    found = _VM.search(nodeid)
    if found is None:
        return nodeid.partition("::")[0]
    # half of all rows on debug go past the API proxy: they have a machine of their own, or they would be the end that all wait for
    return "boundary" if found[1] == "debug" and "/test_isolation_" in nodeid else found[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedule by group."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return GroupScheduling(config, log)
