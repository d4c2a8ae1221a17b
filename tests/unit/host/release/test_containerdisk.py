"""A containerDisk: which disk, what the layer and the configuration hold, and that the same disk gives the same bytes; no registry."""

from __future__ import annotations

import errno
import json
import os
import tarfile

import pytest
import zstandard

from cofferdam.cache import file_digest
from cofferdam.errors import HostError, UsageError
from cofferdam.progress import Progress
from cofferdam.release import containerdisk
from cofferdam.release.registry import labels
from cofferdam.release.verify import NotVerifiedError, trusted

QUIET = Progress(quiet=True)
PLAIN = b"disk" * 5000


@pytest.fixture
def sent(monkeypatch):
    """What would be stored: reference, configuration, annotations, bytes of the layer."""
    found = []

    def publish(place, config, layers, notes, progress):
        (layer,) = layers
        found.append((str(place), json.loads(config.path.read_text()), notes, layer.path.read_bytes()))

    monkeypatch.setattr(containerdisk, "publish", publish)
    return found


@pytest.fixture
def disks(release):
    return release("disks", disk=zstandard.ZstdCompressor().compress(PLAIN), formats=("raw", "vhdx"))


def store(folder, keys, **options):
    containerdisk.publish_container_disk(folder, "registry.example.com/disk", QUIET, key=keys / "allowed_signers", **options)


def test_the_layer_holds_the_plain_disk_for_kubevirts_qemu_and_is_the_same_each_time(disks, keys, sent, tmp_path):
    store(disks, keys)
    os.utime(disks / "cofferdam-1.2.0-default.raw.zst", (1, 1))
    store(disks, keys, kind="raw")
    assert sent[0] == sent[1]
    place, config, _, layer = sent[0]
    assert place == "registry.example.com/disk:1.2.0"
    (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        members = [(each.name, each.uid, each.gid, each.mode, each.mtime, each.isdir()) for each in tar]
        assert members == [("disk", 107, 107, 0o555, 0, True), ("disk/cofferdam-1.2.0-default.raw", 107, 107, 0o444, 0, False)]
        file = tar.extractfile("disk/cofferdam-1.2.0-default.raw")
        assert file is not None and file.read() == PLAIN
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{file_digest(tmp_path / 'layer.tar')}"]}


def test_what_annotations_say_is_true_of_everything_in_it(disks, keys, sent):
    store(disks, keys)
    _, config, notes, _ = sent[0]
    said = labels(trusted(disks, keys / "allowed_signers"))
    assert said == {
        "org.opencontainers.image.title": "cofferdam",
        "org.opencontainers.image.version": "1.2.0",
        "org.opencontainers.image.revision": "a" * 40,
    }, "a licence would be that of all software in it"
    assert config["config"]["Labels"] == said and said.items() < notes.items()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "vhdx"}, "--format vhdx: KubeVirt does not boot that"),
        ({"kind": "qcow2"}, "has no qcow2 of profile `default`"),
        ({"profile": "debug"}, "has no qcow2 or raw of profile `debug`"),
    ],
)
def test_a_disk_that_is_not_there_is_refused(disks, keys, sent, options, said):
    with pytest.raises(UsageError, match=said):
        store(disks, keys, **options)
    assert sent == []


def test_a_release_that_does_not_verify_is_not_stored(disks, keys, sent):
    (disks / "cofferdam-1.2.0-default.raw.zst").write_bytes(zstandard.ZstdCompressor().compress(b"evil"))
    with pytest.raises(NotVerifiedError):
        store(disks, keys)
    assert sent == []


def test_no_room_for_the_layer_is_told_with_what_to_do(disks, keys, sent, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(containerdisk, "unpacked_file", full)
    with pytest.raises(HostError, match="No space left") as caught:
        store(disks, keys)
    assert "TMPDIR" in caught.value.hint and sent == []
