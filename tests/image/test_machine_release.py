"""A release of the image that is released: built from a lock, booted from its own file, signed, verified."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from cofferdam.bench.model import Report
from cofferdam.checkout import Checkout
from cofferdam.image.model import Manifest
from cofferdam.machine import api
from cofferdam.progress import Progress
from cofferdam.release import steps as table
from cofferdam.release.boottest import isolated
from cofferdam.release.folder import ingredients
from cofferdam.release.keys import load_signing_key, new_signing_key
from cofferdam.release.make import make_release
from cofferdam.release.order import Order, Source
from cofferdam.release.verify import trusted
from cofferdam.tools.lock import KERNEL_SOURCE, TOOLS, Lock, root_tree, write_lock
from vmtest.machines import Machines

pytestmark = pytest.mark.vm

COMMIT, EPOCH, VERSION = "a" * 40, 1_790_000_000, "1.2.0-rc1"
REPORT = (
    f'<testsuites><testsuite name="cofferdam {COMMIT} all" tests="9" failures="0" errors="0" skipped="2" time="60"/></testsuites>'
)


@pytest.fixture
def order(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A release from the packages that the image at hand was made from: suites move on, and the project's lock with them."""
    image = machines.image("default")
    made = ingredients(image)
    for name, contents in ((root_tree("default"), made.root), (TOOLS, made.tools), (KERNEL_SOURCE, made.kernel)):
        assert contents is not None, name
        write_lock(name, contents, tmp_path / "lock")
    kernel = Manifest.model_validate_json(image.manifest.read_text()).kernel.version
    figures = Report(machine="m", accelerator="tcg", kernel=kernel, taken="2026-11-01", runs=3)
    (tmp_path / "latest.json").write_text(figures.model_dump_json())
    (tmp_path / "report.xml").write_text(REPORT)
    new_signing_key(tmp_path / "keys")
    # Who changes the project tests before the commit.
    monkeypatch.setattr(table, "read_checkout", lambda: Checkout(COMMIT, EPOCH, ()))
    return Order(
        version=VERSION,
        source=Source(Checkout(COMMIT, EPOCH, ()), "- Something new."),
        profiles=("default",),
        formats=("direct",),
        target=tmp_path / f"out/cofferdam-{VERSION}",
        lock=Lock(tmp_path / "lock"),
        key=load_signing_key(tmp_path / "keys/release.key"),
        tests=tmp_path / "report.xml",
        bench=tmp_path / "latest.json",
    )


def test_what_is_released_has_booted_and_isolates(order: Order, tmp_path: Path) -> None:
    make_release(replace(order, key=None), Progress(), until="boot")
    proof = json.loads((order.work / "boot-default-direct/boot.json").read_text())
    assert isolated(proof["uid_map"])
    assert not [row for row in api.status() if row["name"].startswith("release-")], "the instance is gone"
    done = make_release(order, Progress())
    assert [each.name for each in done if each.kept] == ["build-default", "artefact-default-direct", "boot-default-direct"]
    manifest = trusted(order.target, tmp_path / "keys/allowed_signers")
    (artefact,) = manifest.artefacts
    assert artefact.kernel == proof["kernel"]
    with tarfile.open(order.target / artefact.name) as tar:
        assert {"vmlinuz", "root.erofs", "manifest.json"} <= set(tar.getnames())
        assert not [name for name in tar.getnames() if "key" in name]
    notes = (order.target / "NOTES.md").read_text()
    assert f"{proof['seconds']} s ({proof['accelerator']})" in notes and "dockerd unknown" not in notes
