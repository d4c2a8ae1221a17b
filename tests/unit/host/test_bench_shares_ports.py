"""What `inv bench` runs for shares and ports, on this machine: the workloads in a directory, the port's probe against its server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.bench import idle, portprobe
from cofferdam.bench.ports import answers, published_port, table
from cofferdam.bench.proxy import scale
from cofferdam.bench.shares import PREPARING, ROWS, script
from cofferdam.bench.workloads import SERVING
from cofferdam.errors import InstanceError
from cofferdam.machine.hostos import wait_until


def python(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-IS", "-c", script(text, str(directory / "work"), FILES, str(directory / "tar"))]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


FILES = scale("tcg").files


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bench")
    (directory / "work").mkdir()
    for text in PREPARING:
        done = python(text, directory)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return directory


@pytest.mark.parametrize("text", [row[2] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_workload_prints_one_rate_and_leaves_nothing_behind(filled: Path, text: str) -> None:
    before = sorted(os.listdir(filled / "work"))
    done = python(text, filled)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
    assert sorted(os.listdir(filled / "work")) == before == ["bench.read", "bench.tree"]


def test_the_trees_hold_what_the_rows_count(filled: Path) -> None:
    tree = filled / "work/bench.tree"
    assert sum(len(list(each.iterdir())) for each in tree.iterdir() if each.name != ".git") == FILES
    tracked = subprocess.run(["git", "-C", tree, "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    assert len(tracked) == FILES
    assert (filled / "work/bench.read").stat().st_size == 16384 * 4096
    listed = subprocess.run(["tar", "-tf", filled / "tar"], capture_output=True, text=True, check=True).stdout.split()
    assert sum(not name.endswith("/") for name in listed) == FILES


def test_a_status_that_tells_of_changes_is_no_figure(filled: Path) -> None:
    status = next(text for name, _, text in ROWS if "git status" in name)
    added = filled / "work/bench.tree/added"
    added.touch()
    try:
        done = python(status, filled)
    finally:
        added.unlink()
    assert done.returncode != 0
    assert (done.stdout, "tells of changes" in done.stderr) == ("", True)


def test_a_tar_that_fails_is_no_figure(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    unpacking = next(text for name, _, text in ROWS if "unpacked" in name)
    done = python(unpacking, tmp_path)
    assert done.returncode != 0
    assert (done.stdout, "tar has failed" in done.stderr) == ("", True)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The port of a server that runs here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with subprocess.Popen([sys.executable, "-IS", "-c", SERVING.replace("PORT", port)]) as server:
        try:
            assert wait_until(lambda: answers(port), 60)
            yield port
        finally:
            server.kill()


@pytest.mark.parametrize("row", table(scale("tcg")), ids=lambda row: row.name.removeprefix("published port: "))
def test_the_probe_measures_each_row_when_called_and_when_run_alone(served: str, row) -> None:
    name, argument = row.workload
    assert portprobe.WORKLOADS[name]("127.0.0.1", served, argument) > 0
    words = [sys.executable, "-IS", "-", "127.0.0.1", served, name, argument]
    done = subprocess.run(words, input=Path(portprobe.__file__).read_bytes(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 0


def test_rates_and_times_are_what_a_slow_server_gives() -> None:
    """A quarter of a second for each answer: a round trip takes so long, and so does all of a small stream."""

    def serve() -> None:
        for _ in range(2):
            client, _ = listener.accept()
            with client, client.makefile("rb") as asked:
                for line in asked:
                    time.sleep(0.25)
                    client.sendall(bytes(int(line)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        thread = threading.Thread(target=serve)
        thread.start()
        assert portprobe.round_trip("127.0.0.1", port, "3") >= 250
        assert 0 < portprobe.stream("127.0.0.1", port, "1") <= 4
        thread.join()


def test_an_answer_that_ends_too_early_is_an_error_and_no_figure() -> None:
    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rb") as asked:
            asked.readline()
            client.sendall(b"x")
            asked.readline()
            client.sendall(bytes(1000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ValueError, match=f"ended {portprobe.MIB - 1000} bytes too early"):
            portprobe.stream("127.0.0.1", str(listener.getsockname()[1]), "1")
        thread.join()


def test_a_port_nobody_listens_on_does_not_answer() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert not answers(str(held.getsockname()[1]))


@pytest.mark.parametrize("text", ["0.0.0.0:32768\n", "0.0.0.0:32768\n[::]:32768\n", "127.0.0.1:32768"])
def test_the_port_is_read_from_what_docker_says(text: str) -> None:
    assert published_port(text) == "32768"


def test_processor_time_is_that_of_the_process() -> None:
    before, busy = idle.processor_seconds(os.getpid()), time.process_time() + 0.5
    while time.process_time() < busy:
        pass
    assert 0.4 <= idle.processor_seconds(os.getpid()) - before < 5


def test_a_share_of_a_processor_tells_idle_from_busy() -> None:
    """A line makes the idle process a busy one; on a loaded machine it may take a while to get its share."""
    words = [sys.executable, "-c", "print('up', flush=True)\ninput()\nwhile True: pass"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            assert idle.processor_share(process.pid, 0.5) <= 0.05
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert wait_until(lambda: 0.05 < idle.processor_share(process.pid, 0.5) < 1.5, 120)
        finally:
            process.kill()


def test_a_process_that_has_ended_is_an_error_and_no_figure() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(InstanceError, match="has ended while it was idle"):
        idle.processor_seconds(process.pid)
