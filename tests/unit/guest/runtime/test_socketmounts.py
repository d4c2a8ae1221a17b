"""The question to the API proxy: only a plain yes is one."""

import json
import os
import socket
import threading

import pytest

from cofferdam_guest.linux import mountinfo
from cofferdam_guest.runtime import socketmounts, sources
from cofferdam_guest.runtime.errors import Refusal


@pytest.fixture
def record(tmp_path):
    directory = tmp_path / "containers/abc"
    directory.mkdir(parents=True)
    (directory / "config.v2.json").write_text(json.dumps({"Image": "sha256:1", "Config": {"Image": "docker:cli"}}))
    return tmp_path


@pytest.fixture
def proxy(tmp_path):
    """Answers each connection with the bytes set; keeps the questions."""
    path, asked, answers = str(tmp_path / "proxy"), [], [b""]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answers[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path, asked, answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_yes(record, proxy):
    path, asked, answers = proxy
    answers[0] = b'{"allowed": true, "message": ""}\n'
    assert socketmounts.denial("abc", str(record), path) == ""
    assert [json.loads(each) for each in asked] == [{"image": "sha256:1", "name": "docker:cli"}]


@pytest.mark.parametrize(
    "answer",
    [b'{"allowed": false, "message": "no"}\n', b'{"allowed": 1, "message": "no"}\n', b'{"allowed": "true", "message": "no"}\n'],
)
def test_no_with_the_proxys_words(record, proxy, answer):
    path, _, answers = proxy
    answers[0] = answer
    assert socketmounts.denial("abc", str(record), path) == "no"


@pytest.mark.parametrize(
    "answer", [b"", b"\n", b"true\n", b"{}\n", b'{"allowed": false}\n', b"[true]\n", b'{"allowed": true', b"\xff\n"]
)
def test_what_is_no_answer_is_a_no(record, proxy, answer):
    path, _, answers = proxy
    answers[0] = answer
    assert "did not judge" in socketmounts.denial("abc", str(record), path)


def test_no_proxy_is_a_no(record):
    assert "did not judge" in socketmounts.denial("abc", str(record), str(record / "nobody"))


@pytest.mark.parametrize("text", ["", "{}", '{"Image": "sha256:1"}', "[]"])
def test_no_record_is_a_no(record, proxy, text):
    path, _, answers = proxy
    answers[0] = b'{"allowed": true, "message": ""}\n'
    (record / "containers/abc/config.v2.json").write_text(text)
    assert "did not judge" in socketmounts.denial("abc", str(record), path)
    assert "did not judge" in socketmounts.denial("unknown", str(record), path)


def origin_of(path, context):
    fd = os.open(path, os.O_PATH)
    try:
        return mountinfo.origin(fd, context.mounts)
    finally:
        os.close(fd)


def test_the_door_is_asked_about_and_nothing_else(context, monkeypatch, tmp_path):
    for name in ("docker.sock", "other.sock"):
        (tmp_path / name).touch()
    context.mounts = mountinfo.read()
    rules = sources.Sources(context)
    door, other = (origin_of(tmp_path / name, context) for name in ("docker.sock", "other.sock"))
    monkeypatch.setattr(sources, "DOOR", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(sources, "denial", lambda *_: "")
    assert rules.allows(door, "/var/run/docker.sock", read_only=False)
    assert not rules.allows(other, "/var/run/docker.sock", read_only=False)
    monkeypatch.setattr(sources, "denial", lambda *_: "why")
    with pytest.raises(Refusal, match="why"):
        rules.allows(door, "/var/run/docker.sock", read_only=False)
