"""What the guest's programs know without reading the settings is what the image's settings say."""

import json
from pathlib import Path

from cofferdam_guest.config import engine
from cofferdam_guest.policyload.main import Places
from cofferdam_guest.runtime import paths

OVERLAY = Path(__file__).parents[2] / "vm/rootfs/overlay/base"


def test_directory_of_dockerd():
    text = (OVERLAY / engine.BAKED.lstrip("/")).read_text(encoding="utf-8")
    assert json.loads(text)["docker"]["root"] == paths.DOCKER_ROOT


def test_the_policy_loader_writes_what_the_engine_reads():
    places = Places()
    assert f"{places.out}/engine.json" == engine.PATH
    assert (places.settings, places.boot.rpartition("/")[0]) == (engine.BAKED, "/run/cofferdam/boot-policy")
    rows = (OVERLAY / "usr/lib/tmpfiles.d/cofferdam.conf").read_text(encoding="utf-8").splitlines()
    assert [row.split()[0] for row in rows if places.boot in row.split()] == ["f^"]
    assert {places.out, places.boot.rpartition("/")[0]} <= {row.split()[1] for row in rows if row.startswith("d ")}
