import copy
import json
from pathlib import Path

import pytest

from cofferdam_guest.config import engine

SHIPPED = Path(__file__).parents[4] / "vm/rootfs/overlay/base/etc/cofferdam/engine.json"
GOOD = json.loads(SHIPPED.read_text())


def changed(path, value):
    document = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    part = document
    for each in parents:
        part = part[each]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return json.dumps(document)


def test_the_shipped_file_is_good():
    settings = engine.load(str(SHIPPED))
    assert (settings.first, settings.size, settings.count) == (100000, 65536, 4096)
    assert settings.docker_root == "/var/lib/docker"
    assert settings.deny == ()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("version", 2, "version"),
        ("version", None, "lacks version"),
        ("extra", 1, "unknown key extra"),
        ("ids.first", 0, "ids.first"),
        ("ids.first", True, "ids.first"),
        ("ids.size", "65536", "ids.size"),
        ("ids.count", None, "ids lacks count"),
        ("docker.root", "var/lib/docker", "docker.root"),
        ("docker.root", "/var/lib/../docker", "docker.root"),
        ("docker.root", "//var", "docker.root"),
        ("shares", [], "shares must be an object"),
        ("shares.roots", "/host", "shares.roots"),
        ("mounts.deny", ["relative"], "mounts.deny"),
        ("mounts.allow", [], "unknown key allow"),
    ],
)
def test_a_wrong_setting_is_named(path, value, says):
    with pytest.raises(engine.SettingsError, match=says):
        engine.parse(changed(path, value))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 1}', b" " * (2 << 20)])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "engine.json"
    path.write_bytes(content)
    with pytest.raises(engine.SettingsError, match=r"engine\.json"):
        engine.load(str(path))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(engine.SettingsError, match=r"absent\.json"):
        engine.load(str(tmp_path / "absent.json"))


@pytest.mark.parametrize("document", [{"version": 1, "refuse": "no policy"}, {**GOOD, "refuse": "no policy"}])
def test_settings_that_refuse_give_their_reason_even_where_the_rest_is_good(document):
    with pytest.raises(engine.SettingsError, match=r"nothing may be started: no policy"):
        engine.parse(json.dumps(document))
