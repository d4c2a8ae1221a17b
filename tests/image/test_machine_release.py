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
from cofferdam.tools.lock import IMAGE_TOOLS, KERNEL_SOURCE, TOOLS, Lock, root_tree, write_lock
from cofferdam.tools.tree import ensure_image_tools
from vmtest.machines import Machines

pytestmark = pytest.mark.vm

FORMATS = ("direct", "qcow2")
"""One that QEMU boots itself, and one that firmware boots; a boot costs a minute, and the others are booted elsewhere."""

KEPT = ["build-default", *(f"{step}-default-{kind}" for step in ("artefact", "boot") for kind in FORMATS)]

COMMIT, EPOCH, VERSION = "a" * 40, 1_790_000_000, "1.2.0-rc1"
REPORT = (
    f'<testsuites><testsuite name="cofferdam {COMMIT} all" tests="9" failures="0" errors="0" skipped="2" time="60"/></testsuites>'
)


@pytest.fixture
def order(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A release from the packages that the image at hand was made from: suites move on, and the project's lock with them."""
    image = machines.image("default")
    made = ingredients(image)
    image_tools = ensure_image_tools(Progress()).contents
    trees = {root_tree("default"): made.root, TOOLS: made.tools, IMAGE_TOOLS: image_tools, KERNEL_SOURCE: made.kernel}
    for name, contents in trees.items():
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
        formats=FORMATS,
        target=tmp_path / f"out/cofferdam-{VERSION}",
        lock=Lock(tmp_path / "lock"),
        key=load_signing_key(tmp_path / "keys/release.key"),
        tests=tmp_path / "report.xml",
        bench=tmp_path / "latest.json",
    )


def test_what_is_released_has_booted_and_isolates(order: Order, tmp_path: Path) -> None:
    make_release(replace(order, key=None), Progress(), until="boot")
    proofs = {kind: json.loads((order.work / f"boot-default-{kind}/boot.json").read_text()) for kind in FORMATS}
    assert all(isolated(proof["uid_map"]) for proof in proofs.values())
    assert not [row for row in api.status() if row["name"].startswith("release-")], "the instance is gone"
    done = make_release(order, Progress())
    assert [each.name for each in done if each.kept] == KEPT
    manifest = trusted(order.target, tmp_path / "keys/allowed_signers")
    found = {each.format: each for each in manifest.artefacts}
    assert {kind: each.kernel for kind, each in found.items()} == {kind: proof["kernel"] for kind, proof in proofs.items()}
    assert len({each.root_hash for each in manifest.artefacts} - {None}) == 1
    with tarfile.open(order.target / found["direct"].name) as tar:
        assert {"vmlinuz", "root.erofs", "manifest.json"} <= set(tar.getnames())
        assert not [name for name in tar.getnames() if "key" in name]
    notes = (order.target / "NOTES.md").read_text()
    assert all(f"{proof['seconds']} s ({proof['accelerator']})" in notes for proof in proofs.values())
    assert "dockerd unknown" not in notes
