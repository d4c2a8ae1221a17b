"""Stores of inner engines go when dockerd has forgotten their container."""

import os
import time

from cofferdam_guest.runtime import sweep


def test_only_stores_of_unknown_containers_are_removed(tmp_path):
    docker, stores = tmp_path / "docker", tmp_path / "stores"
    for path in (docker / "containers/known", stores / "known/a", stores / "gone/a/b"):
        path.mkdir(parents=True)
    sweep.sweep(str(docker), str(stores))
    end = time.monotonic() + 20
    while (stores / "gone").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.wait()
    assert os.listdir(stores) == ["known"]


def test_no_directory_is_no_error(tmp_path):
    sweep.sweep(str(tmp_path), str(tmp_path / "absent"))
