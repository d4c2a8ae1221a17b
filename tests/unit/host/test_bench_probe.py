"""The client that the bench runs in the VM, against a small server of the Docker API on a Unix socket."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import socketserver
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cofferdam.bench import probe, proxy


@dataclass
class Engine:
    """What the server heard, and what it answers when that is not the usual."""

    path: str
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    """Of the chunks of bodies without a length."""


def plain(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def chunked(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


def frames(*pieces: bytes) -> bytes:
    return b"".join(b"\x01\0\0\0" + len(piece).to_bytes(4, "big") + piece for piece in pieces)


class Handler(socketserver.StreamRequestHandler):
    engine: Engine

    def handle(self) -> None:
        while line := self.rfile.readline():
            length, upgrade = 0, False
            while (field := self.rfile.readline().strip()) != b"":
                name, _, value = field.partition(b": ")
                length = int(value) if name == b"Content-Length" else -1 if name == b"Transfer-Encoding" else length
                upgrade = upgrade or name == b"Upgrade"
            method, target, _ = line.decode().split()
            path = f"{method} {target.removeprefix('/v1.45').partition('?')[0]}"
            self.engine.heard.append((path, self.rfile.read(length) if length >= 0 else self.chunks()))
            self.wfile.write(self.engine.answers.get(path, plain(b"OK")))
            if upgrade and self.rfile.readline() == b"\n":
                self.wfile.write(frames(bytes(300_000), bytes(probe.MIB - 300_000)))

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            self.engine.sizes.append(size)
            body += self.rfile.read(size)
            assert self.rfile.readline() == b"\r\n"
        assert self.rfile.readline() == b"\r\n"
        return body


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(str(tmp_path / "s"))
    handler = type("Bound", (Handler,), {"engine": made})
    with socketserver.ThreadingUnixStreamServer(made.path, handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        server.shutdown()


def test_rate_asks_so_many_times_on_all_its_connections(engine: Engine) -> None:
    assert probe.rate(engine.path, "/_ping", "24", "8") > 0
    assert engine.heard == [("GET /_ping", b"")] * 24


def test_latency_is_told_in_milliseconds(engine: Engine) -> None:
    assert 0 < probe.latency(engine.path, "/_ping", "20") < 1000
    assert len(engine.heard) == 20


def test_answers_in_chunks_are_read_whole_and_the_connection_goes_on(engine: Engine) -> None:
    engine.answers["GET /x"] = chunked(b"a" * 70_000, b"b\r\n0\r\n\r\n")
    door = probe.Door(engine.path)
    for _ in range(2):
        door.send("GET", "/x")
        assert door.answer() == b"a" * 70_000 + b"b\r\n0\r\n\r\n"
    door.close()


def test_an_error_of_the_engine_is_no_figure(engine: Engine) -> None:
    engine.answers["GET /x"] = plain(b'{"message":"refused"}', "403 Forbidden")
    with pytest.raises(ValueError, match=r"status 403.*refused"):
        probe.rate(engine.path, "/x", "1", "1")


def test_an_answer_that_is_cut_off_is_no_figure(engine: Engine) -> None:
    engine.answers["GET /x"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    door = probe.Door(engine.path)
    door.send("GET", "/x")
    door.socket.shutdown(1)
    with pytest.raises(ValueError, match="96 bytes too early"):
        door.answer()
    door.close()


def test_start_creates_starts_and_removes_one_container(engine: Engine) -> None:
    engine.answers["POST /containers/create"] = plain(b'{"Id":"c1"}', "201 Created")
    engine.answers["POST /containers/c1/start"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert probe.start(engine.path, "image") > 0
    assert [path for path, _ in engine.heard] == ["POST /containers/create", "POST /containers/c1/start", "DELETE /containers/c1"]
    assert json.loads(engine.heard[0][1])["Image"] == "image"


def test_attach_counts_what_frames_hold_until_all_has_come(engine: Engine) -> None:
    engine.answers["POST /containers/c1/attach"] = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    assert probe.attach(engine.path, "c1", "1") > 0


def test_attach_without_a_tunnel_is_no_figure(engine: Engine) -> None:
    with pytest.raises(ValueError, match="status 200"):
        probe.attach(engine.path, "c1", "1")


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_load_sends_an_image_whose_layer_is_what_its_configuration_says(engine: Engine, framing: str) -> None:
    assert probe.load(engine.path, "1", framing) > 0
    (path, sent), (removal, _) = engine.heard
    assert (path, removal) == ("POST /images/load", "DELETE /images/cofferdam-bench/load:latest")
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        files = {item.name: archive.extractfile(item).read() for item in archive}  # type: ignore[union-attr]
    layer = files[json.loads(files["manifest.json"])[0]["Layers"][0]]
    assert json.loads(files["config.json"])["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    assert len(layer) > probe.MIB
    # as the docker program sends it; the last chunk is what is left
    assert set(engine.sizes[:-1]) == ({32768} if framing == "chunked" else set())


def test_a_build_that_fails_after_its_head_is_no_figure(engine: Engine) -> None:
    engine.answers["POST /build"] = chunked(b'{"errorDetail":{"message":"no space"},"error":"no space"}')
    with pytest.raises(ValueError, match="no space"):
        probe.context(engine.path, "1")


def test_streams_hold_all_their_connections_open_while_memory_is_read(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answers["GET /events"] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    monkeypatch.setattr(probe, "_SETTLE", 0)
    monkeypatch.setattr(probe, "_ACCOUNTS", tmp_path)
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit/cgroup.procs").write_text(f"{os.getpid()}\n")
    # what other tests have left must not be given back meanwhile
    gc.collect()
    before, during = probe.streams(engine.path, "unit", "10")
    assert len(engine.heard) == 10
    assert 1 < before <= during + 1


def test_the_probe_stands_alone_and_prints_one_json_value(engine: Engine) -> None:
    words = [sys.executable, "-IS", "-", engine.path, "latency", "/_ping", "3"]
    script = Path(probe.__file__).read_bytes()
    assert json.loads(subprocess.run(words, input=script, capture_output=True, check=True).stdout) > 0


def test_every_row_of_the_table_names_a_workload_that_the_probe_has() -> None:
    for row in proxy.table(proxy.scale("tcg"), "image"):
        name, *arguments = row.workload
        assert probe.WORKLOADS[name].__code__.co_argcount == 1 + len(arguments), row.name
