"""Suites on booted VMs: `debug` has isolation, `baseline` has none and is the negative control.

A test marked `isolation` runs on both; on baseline it must fail by an assertion, or it proves nothing. One marked `both` must pass on
both. All others run on debug alone. Modules named test_isolation_* talk to dockerd's own socket, past the API proxy. With
pytest-xdist each VM has a worker process of its own, and so have the tests that boot machines for themselves.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from cofferdam.progress import Progress
from vmtest.machines import Machines
from vmtest.vm import Broken, Vm

PROFILES = ("debug", "baseline")
_MACHINES = pytest.StashKey[Machines]()
_FAILED = (AssertionError, pytest.fail.Exception)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the VMs of a test by its marker."""
    if "vm" not in metafunc.fixturenames:
        return
    isolation = metafunc.definition.get_closest_marker("isolation")
    # What is named isolation has to hold without the API proxy; everything else is done the way users do it.
    bypass = metafunc.module.__name__.rpartition(".")[2].startswith("test_isolation")
    profiles: list[Any] = [pytest.param("debug engine", id="debug") if bypass else "debug"]
    if isolation is not None:
        why = isolation.kwargs["why"]
        profiles.append(pytest.param("baseline", marks=pytest.mark.xfail(strict=True, raises=_FAILED, reason=why)))
    elif metafunc.definition.get_closest_marker("both") is not None:
        profiles.append("baseline")
    metafunc.parametrize("vm", profiles, indirect=True, scope="session")


def _interrupted(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Stop the VMs, also after an interrupt; what a failed session left to read is kept."""
    machines = session.config.stash.get(_MACHINES, None)
    if machines is not None:
        machines.keep = session.testsfailed > 0
        machines.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A fixture that fails is no proof of anything, so it must not count as a row's expected failure on baseline."""
    try:
        return (yield)
    except _FAILED as error:
        raise Broken(f"a fixture failed: {error}") from error


@pytest.fixture(scope="session")
def machines(request: pytest.FixtureRequest) -> Machines:
    """The VMs of the session, for tests that boot further ones.

    They begin to boot here, at the first test that needs one, and not before: a boot in the background must not meet what unit tests
    do to the process's environment.
    """
    signal.signal(signal.SIGTERM, _interrupted)
    machines = request.config.stash[_MACHINES] = Machines(Progress())
    if not hasattr(request.config, "workerinput"):
        calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
        wanted = {call.params["vm"].partition(" ")[0] for call in calls if "vm" in call.params}
        machines.start([profile for profile in PROFILES if profile in wanted])
    return machines


@pytest.fixture(scope="session")
def vm(request: pytest.FixtureRequest, machines: Machines) -> Vm:
    """The VM a test runs on."""
    profile, _, way = request.param.partition(" ")
    found = machines.vm(profile)
    return found.boundary if way else found


@pytest.fixture(autouse=True)
def _vm_lives(request: pytest.FixtureRequest) -> None:
    """A VM that is gone fails each of its rows at once, or every one of them would wait for docker's time limit."""
    if "vm" in request.fixturenames:
        request.getfixturevalue("vm").check_alive()


@pytest.fixture(autouse=True)
def _remove_named_containers(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "vm" in request.fixturenames:
        request.getfixturevalue("vm").remove_named()
