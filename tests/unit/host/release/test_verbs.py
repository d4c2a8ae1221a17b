"""What the verbs of releases print, and how they end."""

from __future__ import annotations

import json

import pytest
from invoke import Exit

from cofferdam import releasemenu, releaseverbs
from cofferdam.errors import UsageError
from cofferdam.image.build import publish
from cofferdam.release import lock as locks
from cofferdam.tools.lock import Difference


@pytest.fixture
def latest(image, tmp_path, monkeypatch):
    """The image is the latest one of its profile."""
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    publish("default", image.directory)
    return image


def test_verify_ends_with_1_for_a_folder_that_was_changed(folder, keys, capsys):
    assert releaseverbs.verify(str(folder), str(keys / "allowed_signers"))
    assert "verified" in capsys.readouterr().out.splitlines()
    (folder / "extra").touch()
    assert not releaseverbs.verify(str(folder), str(keys / "allowed_signers"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] is False
    assert [(each["name"], each["found"]) for each in found["checks"] if not each["ok"]] == [
        ("sums", "extra is not in SHA256SUMS")
    ]
    with pytest.raises(Exit) as caught:
        releasemenu.verify.body(None, str(folder), key=str(keys / "allowed_signers"))
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert "REFUSED" in out and "cannot be trusted" in out and "verified" not in out.split()


def test_without_a_key_of_the_project_nothing_is_verified(folder, capsys):
    assert not releaseverbs.verify(str(folder))


def test_keys_are_made_and_told(tmp_path, capsys):
    (tmp_path / "word").write_text("secret\n")
    releaseverbs.keys_new(str(tmp_path / "keys"), passphrase_file=str(tmp_path / "word"))
    out = capsys.readouterr().out
    assert "secret" not in out and "with its passphrase" in out and "inv verify" in out
    assert b"ENCRYPTED" not in (tmp_path / "keys/allowed_signers").read_bytes()
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"release.key", "release.key.pub", "allowed_signers"}


@pytest.mark.parametrize("kind", ["cyclonedx", "spdx"])
def test_a_bill_of_materials_is_written_or_printed(latest, tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    releaseverbs.sbom("default", kind)
    printed = capsys.readouterr().out
    releaseverbs.sbom("default", kind, str(tmp_path / "bom.json"))
    assert (tmp_path / "bom.json").read_text() == printed
    assert "2026-09-21" in printed


def test_vulnerabilities_end_with_1_from_the_urgency_on(latest, tmp_path, capsys):
    entry = {"releases": {"trixie": {"status": "open", "urgency": "medium"}}}
    (tmp_path / "data").write_text(
        json.dumps({"odd": {"CVE-2026-1": entry}, "other": {"CVE-2026-2": {"releases": {"sid": entry["releases"]["trixie"]}}}})
    )
    assert releaseverbs.vulnerabilities("default", str(tmp_path / "data"))
    assert "CVE-2026-1" in capsys.readouterr().out
    assert not releaseverbs.vulnerabilities("default", str(tmp_path / "data"), "medium", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] and [each["id"] for each in found["findings"]] == ["CVE-2026-1"]


def test_the_time_stamp_is_the_variables_or_the_commits(monkeypatch):
    for word in ("soon", "-1", "9" * 12, "9" * 5000):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", word)
        with pytest.raises(UsageError, match=f"SOURCE_DATE_EPOCH={word}"):
            releaseverbs.source_epoch()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    if (releaseverbs.ROOT / ".git").exists():
        assert releaseverbs.source_epoch() > 1_700_000_000


def test_a_bill_of_materials_that_cannot_be_written_leaves_nothing(latest, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    (tmp_path / "out/bom").mkdir(parents=True)
    with pytest.raises(UsageError, match="--out"):
        releaseverbs.sbom("default", "cyclonedx", str(tmp_path / "out/bom"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bom"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"update": True}, {"locked": ["vm/lock/tools.json"]}), ({"keep": "there"}, {"kept": 3, "directory": "there"})],
)
def test_every_way_of_lock_speaks_json(monkeypatch, capsys, options, expected):
    monkeypatch.setattr(locks, "update", lambda _: ["tools"])
    monkeypatch.setattr(locks, "keep_packages", lambda *_: 3)
    assert releaseverbs.lock(**options, as_json=True)
    assert json.loads(capsys.readouterr().out) == expected
    assert releaseverbs.lock(**options)
    assert "next           " in capsys.readouterr().out


def test_lock_ends_with_1_when_the_suites_offer_something_else(monkeypatch, capsys):
    found = [Difference("tools", "gcc", "1", "2")]
    monkeypatch.setattr(locks, "compare", lambda _: found)
    with pytest.raises(Exit) as caught:
        releasemenu.lock.body(None)
    assert caught.value.code == 1
    assert "tools: gcc: locked 1, found 2" in capsys.readouterr().out
    assert not releaseverbs.lock(as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"tree": "tools", "name": "gcc", "locked": "1", "found": "2"}]
    found.clear()
    assert releaseverbs.lock()
    assert capsys.readouterr().out == "the suites offer what is locked\n"


def test_update_and_keep_are_two_things():
    with pytest.raises(UsageError, match="--update and --keep"):
        releaseverbs.lock(update=True, keep="x")
