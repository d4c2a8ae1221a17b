"""Loopback channels: QEMU itself as their server, and who gets through to it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.errors import InstanceError
from cofferdam.machine.channels import LOOPBACK, Address, Channel, connect, free_port, listening, receive
from cofferdam.machine.cmdline import MachineSpec, qemu_arguments
from cofferdam.machine.facts import HostFacts, QemuFacts, parse_version
from cofferdam.machine.hosts.channeltls import client_context, make_keys
from cofferdam.machine.hosts.traps import HYPERV_FLAGS
from cofferdam.machine.qmp import Monitor

QEMU = shutil.which("qemu-system-x86_64")


def version() -> tuple[int, int]:
    return parse_version(subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True, timeout=300).stdout)


pytestmark = pytest.mark.skipif(QEMU is None, reason="needs QEMU on this machine")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "a,b" / "channels", "work")


@pytest.fixture
def monitor(tmp_path: Path, keys: Path) -> Iterator[Address]:
    """The monitor of a QEMU without a machine, with our words for channel and keys."""
    with listening(tmp_path / "unused", keys) as channel:
        made = qemu_arguments(
            spec(tmp_path, channel, keys), HostFacts("windows", "x86_64", QemuFacts(QEMU, (7, 2), frozenset(), False))
        )
    words = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-S"]
    for at, word in enumerate(made):
        if word == "-object" or (word in ("-chardev", "-mon") and "qmp" in made[at + 1] and "keeper" not in made[at + 1]):
            words += [word, made[at + 1]]
    process = subprocess.Popen(words)
    try:
        wait_for(channel.address.port, process)
        yield channel.address
    finally:
        process.kill()
        process.wait()


def spec(home: Path, channel: Channel, keys: Path) -> MachineSpec:
    files = {name: home / name for name in ("kernel", "root", "data", "console", "pidfile")}
    others = dict.fromkeys(("ready", "keeper_qmp", "desktop_ports", "denied"), channel)
    more = {"kernel_words": [], "docker_port": 2376, "channel_keys": keys}
    return MachineSpec(name="work", accelerator="tcg", cpus=1, memory=256, qmp=channel, **files, **others, **more)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """QEMU listens by itself here, as on Windows."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "QEMU did not take these words"
        try:
            socket.create_connection((LOOPBACK, port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("QEMU does not listen")


def greeting(connection: socket.socket) -> bytes:
    connection.settimeout(60)
    return connection.recv(4096)


def test_who_has_the_keys_gets_through(monitor):
    with connect(monitor, 60) as client:
        assert b"QMP" in greeting(client)


@pytest.mark.skipif(QEMU is not None and version() < (9, 0), reason="this QEMU leaves lying what TLS has decrypted")
def test_the_monitor_of_a_newer_qemu_answers(monitor):
    with Monitor(monitor, timeout=60) as opened:
        assert opened.status() == "prelaunch"


def test_who_has_none_does_not(monitor):
    with connect(Address(port=monitor.port), 60) as client:
        client.sendall(b'{"execute": "qmp_capabilities"}\n')
        try:
            said = greeting(client)
        except ConnectionError:
            said = b""
        assert b"QMP" not in said
    with pytest.raises(InstanceError, match="does not answer"), Monitor(Address(port=monitor.port), timeout=10):
        pass


def test_who_has_those_of_another_boot_does_not(monitor, tmp_path):
    others = make_keys(tmp_path / "others", "work")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(Address(port=monitor.port, keys=str(others)), 60)
    # It trusts this QEMU, but shows it a key of nobody's.
    (others / "ca-cert.pem").write_bytes((Path(monitor.keys) / "ca-cert.pem").read_bytes())
    try:
        with connect(Address(port=monitor.port, keys=str(others)), 60) as client:
            said = greeting(client)
    except OSError:
        said = b""
    assert b"QMP" not in said


def test_an_impostor_on_the_port_is_not_spoken_to(tmp_path, keys):
    with socket.create_server((LOOPBACK, 0)) as server:
        address = Address(port=server.getsockname()[1], keys=str(keys))

        async def attempt() -> None:
            accepted = asyncio.get_running_loop().run_in_executor(None, server.accept)
            trying = asyncio.to_thread(connect, address, 10)
            task = asyncio.create_task(trying)
            impostor, _ = await accepted
            with impostor:
                hello = await asyncio.to_thread(impostor.recv, 1)
                assert hello == b"\x16", "the first byte of a TLS handshake, and nothing of ours before it"
                impostor.sendall(json.dumps({"QMP": {}}).encode())
            with pytest.raises(OSError):
                await task

        asyncio.run(attempt())


def test_without_keys_there_is_no_way_in(tmp_path):
    with pytest.raises(OSError):
        client_context(tmp_path)


def test_only_their_owner_reads_the_keys(keys):
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
    first = (keys / "client-key.pem").read_bytes()
    make_keys(keys, "work")
    assert (keys / "client-key.pem").read_bytes() != first, "new ones at each boot"


def test_an_address_with_keys_survives_as_text():
    for keys in ("/home/a:b/channels", "C:\\Users\\a b\\channels", ""):
        address = Address(port=50123, keys=keys)
        assert Address.from_text(address.as_text()) == address


def test_all_that_is_decrypted_is_taken(keys):
    ours, theirs = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / "server-cert.pem", keys / "server-key.pem")

    async def talk() -> bytes:
        def serve() -> None:
            with server.wrap_socket(theirs, server_side=True) as other:
                other.sendall(b"x" * 100_000)

        sending = asyncio.create_task(asyncio.to_thread(serve))
        client = await asyncio.to_thread(client_context(keys).wrap_socket, ours, server_hostname=LOOPBACK)
        found = b""
        with client:
            while len(found) < 100_000:
                found += await asyncio.to_thread(receive, client, 16)
                assert client.pending() == 0
        await sending
        return found

    assert asyncio.run(talk()) == b"x" * 100_000


@pytest.mark.parametrize("flag", [*HYPERV_FLAGS.split(","), "hv-none-such"])
def test_qemu_knows_the_names_of_hyper_vs_interfaces(flag):
    asked = '{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'
    words = [
        QEMU,
        "-accel",
        "tcg",
        "-machine",
        "q35",
        "-cpu",
        f"max,{flag}",
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-qmp",
        "stdio",
    ]
    said = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=300).stderr
    # It may say that this accelerator cannot show it.
    assert ("not found" in said) == (flag == "hv-none-such"), said


def test_a_port_of_its_own_for_each_channel(keys, tmp_path):
    with listening(tmp_path / "a", keys) as one, listening(tmp_path / "b", keys) as other:
        assert isinstance(one, Channel)
        assert one.handle is None
        assert one.address.keys == str(keys)
        assert other.address.keys == str(keys)
        assert free_port() not in (0, None)
