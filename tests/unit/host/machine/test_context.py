"""The docker context: written in docker's own format without docker, by docker where there is one, never another's."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from cofferdam.errors import CofferdamError
from cofferdam.machine import context as module
from cofferdam.machine.context import ContextTaken, DockerContext, create, environment, instance_context, remove
from cofferdam.machine.credentials import LIFETIME, ensure_credentials

HOST = "tcp://127.0.0.1:23760"
DOCKER = Path("/usr/local/bin/docker")
FILES = ("ca.pem", "cert.pem", "key.pem")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    # Real ones: docker looks at them.
    return ensure_credentials(tmp_path / "credentials", "box").client


@pytest.fixture
def context(tmp_path: Path) -> DockerContext:
    return instance_context("box", tmp_path / "state/instances/box")


@pytest.fixture(
    params=["written", pytest.param("docker", marks=pytest.mark.skipif(not DOCKER.exists(), reason="no docker program"))]
)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who makes the context. What is true for one must be true for the other."""
    if request.param == "docker":
        monkeypatch.setenv("PATH", str(DOCKER.parent))
    return request.param


def docker(config: Path, *words: str) -> str:
    env = {"DOCKER_CONFIG": str(config), "PATH": os.environ["PATH"], "HOME": str(config)}
    return subprocess.run([DOCKER, *words], env=env, capture_output=True, text=True, timeout=60, check=True).stdout


def use(context: DockerContext, name: str) -> Path:
    file = context.config / "config.json"
    file.write_text(json.dumps({"currentContext": name, "auths": {"example.com": {"auth": "YTpi"}}}))
    return file


def test_names(tmp_path, monkeypatch):
    assert instance_context("default", tmp_path).name == "cofferdam"
    assert instance_context("work", tmp_path).name == "cofferdam-work"
    assert instance_context("work", tmp_path).config == tmp_path / "docker"
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", "/home/a")
    assert instance_context("work", tmp_path).config == Path("/home/a/.docker")


def test_created(context, certificates, maker):
    assert create(context, HOST, certificates) == maker
    identity = hashlib.sha256(b"cofferdam-box").hexdigest()
    meta = json.loads((context.config / f"contexts/meta/{identity}/meta.json").read_text())
    assert meta["Name"] == "cofferdam-box"
    assert meta["Endpoints"]["docker"] == {"Host": HOST, "SkipTLSVerify": False}
    assert meta["Metadata"]["Description"] == context.description
    keys = context.config / f"contexts/tls/{identity}/docker"
    assert {path.name: path.read_text() for path in keys.iterdir()} == {name: (certificates / name).read_text() for name in FILES}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in keys.iterdir())


def test_replaced(context, certificates, maker):
    create(context, HOST, certificates)
    renewed = ensure_credentials(certificates.parent, "box", datetime.datetime.now(datetime.UTC) + LIFETIME).client
    assert create(context, "tcp://127.0.0.1:999", renewed) == maker
    assert json.loads((context.meta / "meta.json").read_text())["Endpoints"]["docker"]["Host"] == "tcp://127.0.0.1:999"
    assert (context.tls / "docker/cert.pem").read_text() == (renewed / "cert.pem").read_text()
    assert len(list((context.config / "contexts/meta").iterdir())) == 1


@pytest.mark.parametrize("other", ["somebody else's", ""])
def test_taken_by_somebody_else(context, certificates, maker, other):
    theirs = DockerContext(context.name, other, context.config)
    module._write(theirs, "tcp://theirs:1", certificates)
    before = (context.meta / "meta.json").read_bytes()
    with pytest.raises(ContextTaken, match="is left alone") as error:
        create(context, HOST, certificates)
    assert isinstance(error.value, CofferdamError)
    assert f"docker context rm {context.name}" in error.value.hint
    assert not remove(context)
    assert (context.meta / "meta.json").read_bytes() == before
    assert (context.tls / "docker/key.pem").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"Metadata": 3}', '{"Name": "cofferdam-box"}'])
def test_an_unreadable_one_counts_as_somebody_elses(context, certificates, content):
    context.meta.mkdir(parents=True)
    (context.meta / "meta.json").write_text(content)
    with pytest.raises(ContextTaken):
        create(context, HOST, certificates)
    assert not remove(context)
    assert (context.meta / "meta.json").read_text() == content


def test_the_same_name_in_another_state_home_is_somebody_elses(context, certificates, tmp_path):
    create(context, HOST, certificates)
    with pytest.raises(ContextTaken):
        create(instance_context("box", tmp_path / "elsewhere/box"), HOST, certificates)


def test_removed(context, certificates, maker):
    create(context, HOST, certificates)
    assert remove(context)
    assert not context.meta.exists()
    assert not context.tls.exists()
    assert not remove(context)


def test_removing_the_current_one_goes_back_to_the_default(context, certificates, maker):
    create(context, HOST, certificates)
    file = use(context, context.name)
    assert remove(context)
    settings = json.loads(file.read_text())
    assert settings.get("currentContext", "") == ""
    assert settings["auths"] == {"example.com": {"auth": "YTpi"}}


def test_removing_leaves_another_current_one(context, certificates, maker):
    create(context, HOST, certificates)
    file = use(context, "other")
    assert remove(context)
    assert json.loads(file.read_text())["currentContext"] == "other"


def test_settings_behind_a_link_stay_behind_it(context, certificates, maker, tmp_path):
    create(context, HOST, certificates)
    file = use(context, context.name)
    real = tmp_path / "dotfiles.json"
    file.rename(real)
    file.symlink_to(real)
    assert remove(context)
    assert file.is_symlink()
    assert json.loads(real.read_text()).get("currentContext", "") == ""


def test_unreadable_settings_do_not_keep_the_context(context, certificates):
    create(context, HOST, certificates)
    (context.config / "config.json").write_text("{")
    assert remove(context)
    assert (context.config / "config.json").read_text() == "{"


@pytest.mark.skipif(not DOCKER.exists(), reason="no docker program")
def test_docker_reads_what_is_written_without_it(context, certificates):
    assert create(context, HOST, certificates) == "written"
    listed = [json.loads(line) for line in docker(context.config, "context", "ls", "--format", "json").splitlines()]
    assert [(row["Name"], row["DockerEndpoint"], row["Error"]) for row in listed if row["Name"] != "default"] == [
        (context.name, HOST, "")
    ]
    (seen,) = json.loads(docker(context.config, "context", "inspect", context.name))
    assert seen["Endpoints"]["docker"] == {"Host": HOST, "SkipTLSVerify": False}
    assert sorted(seen["TLSMaterial"]["docker"]) == sorted(FILES)
    docker(context.config, "context", "rm", context.name)
    assert not context.meta.exists()


@pytest.mark.skipif(not DOCKER.exists(), reason="no docker program")
def test_what_docker_made_is_removed_without_docker(context, certificates, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(DOCKER.parent))
        assert create(context, HOST, certificates) == "docker"
    assert remove(context)
    assert docker(context.config, "context", "ls", "--quiet").split() == ["default"]


def test_the_callers_docker_variables_have_no_say(context, certificates, maker, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    monkeypatch.setenv("DOCKER_CONTEXT", "nosuch")
    assert create(context, HOST, certificates) == maker
    assert remove(context)


def test_a_path_that_docker_cannot_be_given_is_written(context, tmp_path, certificates, maker):
    odd = certificates.rename(tmp_path / "a,host=tcp:evil")
    assert create(context, HOST, odd) == "written"
    assert json.loads((context.meta / "meta.json").read_text())["Endpoints"]["docker"]["Host"] == HOST


def test_a_docker_that_fails_is_no_obstacle(context, certificates, tmp_path, monkeypatch):
    broken = tmp_path / "bin/docker"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    assert create(context, HOST, certificates) == "written"
    use(context, context.name)
    assert remove(context)
    assert not context.meta.exists()
    assert "currentContext" not in json.loads((context.config / "config.json").read_text())


def test_environment(certificates):
    assert environment(HOST, certificates) == {
        "DOCKER_HOST": HOST,
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(certificates),
    }
