"""The archive for a bug report: whole on a good machine, there on a broken one, and without any of the secrets planted everywhere."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam import dayverbs, diagnose
from cofferdam.diagnose import INDEX, PARTS, Part, archive
from cofferdam.doctor import Check
from cofferdam.errors import UsageError
from cofferdam.machine.instance import Instance, PolicyFacts, Record
from cofferdam.scrub import GONE, scrub, scrub_json

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDplanted0000XX"
# Written in parts: this file holds no key.
PEM = "-----BEGIN " + f"PRIVATE KEY-----\n{BODY}\nc2hvcnQ=\n-----END " + "PRIVATE KEY-----\n"
SECRETS = ("planted", "hunter2", "c2hvcnQ=")
RECORD = {"profile": "default", "accelerator": "tcg", "cpus": 2, "memory": 2048, "docker_port": 2376, "docker_config": "/d"}


@pytest.fixture
def instance(tmp_path, monkeypatch) -> Iterator[Instance]:
    """An instance that was killed: its record is still there."""
    sockets = tempfile.mkdtemp(prefix="cd-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
    monkeypatch.setenv("COFFERDAM_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(diagnose, "doctor", lambda: [Check("qemu", "runs", "ok", "QEMU 9.2", "")])
    made = Instance("box")
    made.create()
    made.write_record(Record.model_validate(RECORD))
    (made.directory / "console.log").write_text("Linux version 7.3.4\nlast words\n")
    yield made
    shutil.rmtree(sockets)


def files(instance: Instance) -> dict[str, str]:
    """Name -> text of every file in the archive."""
    with tarfile.open(fileobj=io.BytesIO(archive(instance)[0])) as tar:
        members = [(entry, tar.extractfile(entry)) for entry in tar.getmembers()]
        assert {entry.mode for entry, _ in members} == {0o600}
        return {entry.name.removeprefix("cofferdam-box/"): data.read().decode() for entry, data in members}


def test_an_instance_is_told_whole(instance):
    found = files(instance)
    assert json.loads(found["doctor.json"])[0]["found"] == "QEMU 9.2"
    assert [(row["name"], row["state"]) for row in json.loads(found["status.json"])] == [("box", "stale")]
    assert json.loads(found["boot.json"])["docker_port"] == 2376
    assert json.loads(found["profile.json"])["name"] == "default"
    assert json.loads(found["policy.json"])["sha256"]
    assert json.loads(found["versions.json"])["pydantic"]
    assert found["console.log"] == "Linux version 7.3.4\nlast words\n"
    assert "boot.json" in [file["name"] for file in json.loads(found["files.json"])]
    index = found[INDEX].splitlines()
    assert [line.split()[0] for line in index[2:]] == [part.name for part in PARTS]
    assert set(found) == {INDEX} | {line.split()[0] for line in index[2:] if "not there" not in line}
    assert any(line.startswith("manifest.json") and "there is no image of profile `default` yet" in line for line in index)


def test_looking_changes_nothing(instance):
    before = instance.record
    files(instance)
    assert instance.record == before
    assert instance.state() == "stale"


def test_where_there_is_no_instance_the_machine_is_told_all_the_same(instance):
    shutil.rmtree(instance.directory)
    found = files(instance)
    assert json.loads(found["status.json"]) == []
    assert {"doctor.json", "profile.json", "versions.json"} <= set(found)
    assert not {"boot.json", "console.log"} & set(found)
    assert "not there: No such file or directory" in next(
        line for line in found[INDEX].splitlines() if line.startswith("boot.json")
    )


def test_a_broken_instance_is_shown_as_it_is(instance):
    (instance.directory / "boot.json").write_text('{"profile": "none')
    (instance.directory / "console.log").unlink()
    (instance.directory / "console.log").mkdir()
    found = files(instance)
    assert "none" in found["boot.json"]
    assert "directory" in next(line for line in found[INDEX].splitlines() if line.startswith("console.log "))


def test_a_part_that_fails_is_a_line_and_no_error(instance, monkeypatch):
    def broken(_: Instance) -> None:
        raise KeyError("password=hunter2")

    monkeypatch.setattr(diagnose, "PARTS", (Part("broken.json", "a bug", broken), *PARTS[:1]))
    found = files(instance)
    assert set(found) == {INDEX, "versions.json"}
    assert "KeyError" in found[INDEX]
    assert "hunter2" not in found[INDEX]


def plant(instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets wherever one could come from."""
    for place in ("credentials/client/key.pem", "credentials/client/cert.pem", "credentials/smbios/tls-key", "ssh_key"):
        path = instance.directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PEM)
    monkeypatch.setenv("REGISTRY_TOKEN", "value-planted-in-the-environment")
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy:3128")
    lines = (
        "X-Registry-Auth: eyJ1c2VybmFtZSI6InBsYW50ZWQifQ== planted",
        'level=info msg="pull" x-registry-auth="planted"',
        "Authorization: Bearer planted.planted.planted",
        "app: REGISTRY_TOKEN is value-planted-in-the-environment",
        "DB_PASSWORD='hunter2 with blanks' --token planted",
        "proxy http://user:hunter2@here@proxy:3128/ used",
        '{"auths": {"r.example": {"auth": "planted", "identitytoken": "planted"}}}',
        "sent Bearer planted-token; saw eyJhbGciOiJ9.planted.planted and dckr_pat_planted-1",
        f"app[7]: {BODY}",
    )
    text = "\n".join([BODY, "c2hvcnQ=", PEM[PEM.index("-----END") :], *lines, PEM, "kept", PEM[: PEM.index("-----END")]])
    for name in ("console.log", "console.log.old", "qemu.log", "qemu.log.old"):
        (instance.directory / name).write_text(text)
    policy = tmp_path / "policy.json"
    proxy = {
        "locked": True,
        "mode": "manual",
        "http": "http://user:hunter2@proxy:3128",
        "https": "http://proxy/?password=hunter2",
    }
    policy.write_text(json.dumps({"proxy": proxy, "unknown": "password=hunter2"}))
    record = Record.model_validate({**RECORD, "why": f"password=hunter2 {PEM}", "ssh_key": "/k"})
    record.policy = PolicyFacts(file=str(policy), sha256=None)
    instance.write_record(record)


@pytest.mark.parametrize("good_policy", [True, False])
def test_no_secret_gets_into_the_archive(instance, tmp_path, monkeypatch, good_policy):
    plant(instance, tmp_path, monkeypatch)
    if good_policy:
        policy = tmp_path / "policy.json"
        policy.write_text(json.dumps({"containersProxy": {"mode": "manual", "http": "http://proxy/?password=hunter2"}}))
    found = files(instance)
    assert {name for name, text in found.items() for secret in SECRETS if secret in text} == set()
    assert {name for name, text in found.items() if "PRIVATE" in text} == set()
    for name in ("console.log", "console.log.old", "qemu.log", "qemu.log.old"):
        assert "kept" in found[name].splitlines()
    assert all(json.loads(text) for name, text in found.items() if name.endswith(".json"))


def test_how_to_get_in_is_no_part_of_the_status(instance, monkeypatch):
    row = {"name": "box", "state": "running", "environment": {"DOCKER_HOST": "tcp://x"}, "cert_path": "/c", "ssh": {"key": "/k"}}
    monkeypatch.setattr(diagnose.api, "status", lambda **_: [row])
    assert json.loads(files(instance)["status.json"]) == [{"name": "box", "state": "running"}]


@pytest.mark.parametrize(
    "text",
    [
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "hash 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "systemd[1]: Started docker.service - Docker engine.",
        "author: somebody, north: compass",
        "http://10.0.2.2:3128/path?a=b",
        "mail to me@example.org",
        "",
    ],
)
def test_what_is_no_secret_stays(text):
    assert scrub(text, {}) == text


def test_values_of_variables_go_by_the_variable_s_name():
    kept = {"EDITOR": "editor", "no_proxy": "localhost", "API_KEY": "abc", "PWD": "/work/here", "OLDPWD": "/work/there"}
    environment = {"MY_SECRET": "abcdefgh", "DB_PWD": "ijklmnop", **kept}
    text = " ".join(kept.values())
    assert scrub(f"abcdefgh ijklmnop {text}", environment) == f"{GONE} {GONE} {text}"


def test_the_home_directory_is_not_told(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert scrub("/home/me/x /home/mean /home/me", {}) == "~/x /home/mean ~"


def test_names_in_json_decide_over_what_is_below_them():
    value = {"password": ["a"], "auth": {"user": "u"}, "token": "", "isolation": "kernel", "ssh": False, "tokens": 7}
    assert scrub_json(value) == {**value, "password": GONE, "auth": GONE, "tokens": GONE}


@pytest.mark.parametrize(
    "piece", ["a\n", "a.", "-----BEGIN A-----", "password ", "A" * 59 + "\n", "http://", "x-registry-", "--token "]
)
@pytest.mark.timeout(60)
def test_a_hostile_log_takes_no_more_than_its_length(piece):
    """Quadratic time would be hours here: pytest's own limit of this test is the measure."""
    scrub(piece * (2**20 // len(piece)), {})


def test_the_verb_writes_a_private_file_and_says_what_is_in_it(instance, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dayverbs.diagnose("box")
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("versions.json")
    assert "cofferdam-box.tar.gz" in out[-2]
    path = tmp_path / "cofferdam-box.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        assert f"cofferdam-box/{INDEX}" in tar.getnames()
    with pytest.raises(UsageError, match="cannot be written"):
        dayverbs.diagnose("box", str(tmp_path / "none/x.tar.gz"))
