from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cofferdam_guest.apiproxy.audit import Audit
from cofferdam_guest.apiproxy.egress.proxy import Limits
from cofferdam_guest.apiproxy.images.web import Unreachable, Web
from cofferdam_guest.config.policy import Policy, deny_all
from cofferdam_guest.config.references import DEFAULT_HOST
from servers.egress import ask, connect, echo, proxy, run, server, talk


def test_a_tunnel_carries_bytes_and_both_half_closes() -> None:
    async def check() -> None:
        async with server(echo) as there, proxy() as port:
            reader, writer = await talk(port, connect("127.0.0.1", there))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"heard hello"
            writer.close()

    run(check())


def test_the_servers_end_leaves_the_clients_way_open() -> None:
    async def check() -> None:
        heard = asyncio.get_running_loop().create_future()

        async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"bye")
            writer.write_eof()
            heard.set_result(await reader.read())

        async with server(first) as there, proxy() as port:
            reader, writer = await talk(port, connect("127.0.0.1", there))
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.read() == b"bye"
            writer.write(b"still here")
            writer.write_eof()
            assert await heard == b"still here"
            writer.close()

    run(check())


def test_bytes_sent_right_after_connect_are_not_lost() -> None:
    async def check() -> None:
        async with server(echo) as there, proxy() as port:
            reader, writer = await talk(port, connect("127.0.0.1", there) + b"early")
            writer.write_eof()
            assert (await reader.read()).endswith(b"\r\n\r\nheard early")
            writer.close()

    run(check())


def test_a_long_answer_arrives_whole_and_a_slow_reader_slows_the_sender() -> None:
    sent = 0

    async def check() -> None:
        async def source(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            for _number in range(2000):
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536

        async with server(source) as there, proxy() as port:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(client, connect("127.0.0.1", there))
                await asyncio.sleep(0.5)
                assert sent < 40 << 20  # what the kernel's buffers hold, not all of it
                received = 0
                while data := await loop.sock_recv(client, 1 << 20):
                    received += len(data)
                assert received == 2000 * 65536 + len("HTTP/1.1 200 Connection established\r\n\r\n")

    run(check())


@pytest.mark.parametrize(
    ("policy", "host"),
    [
        (Policy(registries=("registry.example.com",)), "blocked-registry.com"),
        (Policy(registries=()), f"registry-1.{DEFAULT_HOST}"),
        (Policy(registries=None, denied="no policy"), f"registry-1.{DEFAULT_HOST}"),
        (deny_all("no policy"), f"registry-1.{DEFAULT_HOST}"),
    ],
)
def test_another_host_is_refused_in_the_documented_words_and_told_to_the_journal(
    tmp_path: Path, policy: Policy, host: str
) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)

        async def check() -> None:
            async with proxy(policy, audit=Audit(path)) as port:
                status, body = await ask(port, connect(host))
                assert status == f"HTTP/1.1 403 registry access to {host} is not allowed".encode()
                status, body = await ask(port, f"GET http://{host}/v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert status.startswith(b"HTTP/1.1 403 ")
                message = {"code": "DENIED", "message": f"registry access to {host} is not allowed"}
                assert json.loads(body) == {"errors": [message]}

        run(check())
        event = journal.recv(65536)
        assert b"COFFERDAM_RULE=registry\n" in event and b"COFFERDAM_DOOR=egress\n" in event


def test_the_host_field_decides_nothing() -> None:
    async def check() -> None:
        async with proxy(Policy(registries=("registry.example.com",))) as port:
            status, _ = await ask(port, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: registry.example.com\r\n\r\n")
            assert status.startswith(b"HTTP/1.1 403 ")
            status, _ = await ask(port, b"GET http://evil.example/ HTTP/1.1\r\nHost: registry.example.com\r\n\r\n")
            assert status.startswith(b"HTTP/1.1 403 ")

    run(check())


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Names resolve to these addresses; returns the names asked for."""
    asked: list[str] = []

    async def getaddrinfo(_: object, host: str, port: int, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("registries", [None, ("registry.example.com",)])
def test_a_name_that_leads_to_the_vm_is_refused_even_when_listed(
    monkeypatch: pytest.MonkeyPatch, registries: tuple[str, ...] | None
) -> None:
    asked = resolving(monkeypatch, "127.0.0.1", "10.0.2.2", "169.254.169.254")

    async def check() -> None:
        async with proxy(Policy(registries=registries), rule=None) as port:
            status, _ = await ask(port, connect("registry.example.com"))
            assert status == b"HTTP/1.1 403 registry access to registry.example.com is not allowed"

    run(check())
    assert asked == ["registry.example.com"]


def test_only_the_judged_address_is_connected_to_and_the_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        async with server(echo) as there, proxy(rule=lambda address: address == "127.0.0.1") as port:
            asked = resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
            reader, writer = await asyncio.open_connection(sock=socket.create_connection(("127.0.0.1", port)))
            writer.write(connect("name.example", there))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            writer.write_eof()
            assert await reader.read() == b"heard "
            writer.close()
            assert asked == ["name.example"]

    run(check())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost", "[::1]", "10.0.2.2", "[::ffff:127.0.0.1]", "0.0.0.0"])
@pytest.mark.parametrize("proxies", [{}, {"https": "http://127.0.0.1:9"}])
def test_addresses_of_the_vm_are_refused_with_and_without_a_companys_proxy(host: str, proxies: dict[str, str]) -> None:
    async def check() -> None:
        async with proxy(Policy(proxies=proxies), rule=None) as port:
            assert (await ask(port, connect(host, 443)))[0].startswith(b"HTTP/1.1 403 registry access to ")

    run(check())


def test_an_address_that_the_policy_lists_itself_is_open() -> None:
    async def check() -> None:
        async with server(echo) as there, proxy(Policy(registries=(f"127.0.0.1:{there}",)), rule=None) as port:
            reader, writer = await talk(port, connect("127.0.0.1", there))
            writer.write_eof()
            assert (await reader.read()).endswith(b"heard ")
            writer.close()

    run(check())


def test_a_dead_host_and_an_unknown_name_are_told_apart() -> None:
    async def check() -> None:
        async with proxy() as port:
            assert b"502 127.0.0.1 does not answer" in (await ask(port, connect("127.0.0.1", 9)))[0]
            assert b"502 the name nowhere.invalid cannot be resolved" in (await ask(port, connect("nowhere.invalid")))[0]

    run(check())


async def companys_proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" not in head:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        return
    assert head.startswith(b"CONNECT registry.example.com:443 HTTP/1.1\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nfirst ")
    await echo(reader, writer)


def test_tunnels_go_through_the_companys_proxy_by_name() -> None:
    async def check() -> None:
        async with server(companys_proxy) as there:
            policy = Policy(proxies={"https": f"http://user:secret@127.0.0.1:{there}"}, registries=("registry.example.com",))
            async with proxy(policy, rule=None) as port:
                reader, writer = await talk(port, connect("registry.example.com") + b"early")
                writer.write_eof()
                assert await reader.read() == b"HTTP/1.1 200 Connection established\r\n\r\nfirst heard early"
                writer.close()
                status, _ = await ask(port, connect("blocked.example"))
                assert status == b"HTTP/1.1 403 registry access to blocked.example is not allowed"

    run(check())


def test_a_companys_proxy_that_refuses_is_named() -> None:
    async def check() -> None:
        async with server(companys_proxy) as there, proxy(Policy(proxies={"https": f"http://127.0.0.1:{there}"})) as port:
            status, _ = await ask(port, connect("registry.example.com"))
            assert status == b"HTTP/1.1 502 the proxy 127.0.0.1 does not connect to registry.example.com: status 407"

    run(check())


def test_the_digests_of_socket_images_are_asked_for_on_the_same_way_out() -> None:
    async def check() -> None:
        async with proxy(Policy(registries=("registry.example.com",))) as port:
            client = Web(proxy=("127.0.0.1", port))
            with pytest.raises(Unreachable, match=r"registry access to blocked\.example is not allowed"):
                await asyncio.to_thread(client.request, "GET", "https://blocked.example/v2/", {})

    run(check())


def test_what_is_not_connect_or_absolute_is_refused() -> None:
    async def check() -> None:
        async with proxy() as port:
            for data in (
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                b"CONNECT a.example:443 HTTP/1.0\r\nHost: x\r\n\r\n",
                b"CONNECT a.example:443 HTTP/1.1\r\n\r\n",
                b"GET http://a.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"GET http://a.example/ HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\n1",
                b"GET http://a.example/ HTTP/1.1\nHost: x\n\n",
                b"\x16\x03\x01" + b"A" * 300_000,
            ):
                assert (await ask(port, data))[0].startswith(b"HTTP/1.1 400 "), data[:40]

    run(check())


def test_a_slow_head_and_an_idle_tunnel_end() -> None:
    async def check() -> None:
        limits = Limits(head=0.2, idle=0.3, half_closed=0.3)

        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        async with server(silent) as there, proxy(limits=limits) as port:
            reader, writer = await talk(port, b"CONNECT a")
            assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
            reader, writer = await talk(port, connect("127.0.0.1", there))
            assert (await asyncio.wait_for(reader.read(), 3)).startswith(b"HTTP/1.1 200 ")
            writer.close()

    run(check())


def test_a_tunnel_in_use_outlives_the_idle_limit() -> None:
    async def check() -> None:
        async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _number in range(8):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)

        async with server(slow) as there, proxy(limits=Limits(idle=0.4)) as port:
            reader, writer = await talk(port, connect("127.0.0.1", there))
            writer.write_eof()
            assert (await reader.read()).endswith(b"\r\n\r\n" + b"x" * 8)
            writer.close()

    run(check())


def test_more_connections_than_allowed_are_told_so_and_then_wait() -> None:
    async def check() -> None:
        async with proxy(limits=Limits(connections=2, head=2)) as port:
            held = [await talk(port, b"") for _ in range(2)]
            await asyncio.sleep(0.05)
            told = [await talk(port, connect("127.0.0.1", 9)) for _ in range(2)]
            for reader, _ in told:
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 too many connections")
            reader, writer = await talk(port, connect("127.0.0.1", 9))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            for _, each in (*held, *told):
                each.close()
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 502 ")
            writer.close()

    run(check())
