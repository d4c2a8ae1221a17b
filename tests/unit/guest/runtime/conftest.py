"""What the runtime's tests share: a context without a virtual machine, and a specification as dockerd writes it."""

import copy
import json
import os

import pytest

from cofferdam_guest.config import engine
from cofferdam_guest.idrange.store import Store
from cofferdam_guest.runtime.context import Context

CONTAINER = "c" * 64

SPEC = {
    "ociVersion": "1.2.0",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_CHOWN"]},
        "oomScoreAdj": 0,
    },
    "root": {"path": "rootfs"},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
    ],
    "linux": {
        "namespaces": [{"type": each} for each in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
        "cgroupsPath": "/docker/" + CONTAINER,
        "resources": {},
        "maskedPaths": ["/proc/kcore"],
    },
}


@pytest.fixture
def spec():
    return copy.deepcopy(SPEC)


@pytest.fixture
def settings(tmp_path):
    """Engine settings whose dockerd keeps its data in tmp_path/docker."""
    (tmp_path / "docker/volumes").mkdir(parents=True)
    document = {
        "version": 1,
        "docker": {"root": str(tmp_path / "docker"), "daemon": "/usr/sbin/dockerd"},
        "ids": {"first": 100000, "size": 65536, "count": 3},
        "shares": {"roots": ["/host"]},
        "mounts": {"allow_read_only": [], "allow_read_write": [], "deny": []},
    }
    return engine.parse(json.dumps(document))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "ids"), live=lambda holder: True)


@pytest.fixture
def context(settings, store, tmp_path):
    """The start of an ordinary container; CONTAINER is its id."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    return Context(settings, store, "/run/runc/moby", CONTAINER, str(bundle))


@pytest.fixture
def hostconfig(settings, context):
    """A function that writes what the user asked dockerd for."""

    def write(**values):
        directory = f"{settings.docker_root}/containers/{context.container}"
        os.makedirs(directory, exist_ok=True)
        with open(directory + "/hostconfig.json", "w") as file:
            json.dump(values, file)

    return write
