from __future__ import annotations

import asyncio

from cofferdam_guest.config.policy import Policy
from servers.egress import ask, proxy, run, server, talk


class Recorder:
    """A plain http server that keeps what it got and answers each connection once."""

    def __init__(self, length: int) -> None:
        self.length, self.got = length, b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.got += await reader.readuntil(b"\r\n\r\n")
        self.got += await reader.readexactly(self.length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()


def plain(there: int, fields: str, body: bytes = b"", method: str = "PUT") -> bytes:
    return f"{method} http://127.0.0.1:{there}/v2/a?b=c HTTP/1.1\r\nHost: other.example\r\n{fields}\r\n".encode() + body


def test_a_plain_request_goes_on_in_origin_form_with_its_own_host_and_without_the_hops_fields() -> None:
    async def check() -> None:
        recorder = Recorder(5)
        async with server(recorder) as there, proxy() as port:
            fields = (
                "Content-Length: 5\r\nAccept: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nProxy-Connection: keep-alive\r\n"
                "Proxy-Authorization: Basic c2VjcmV0\r\nUpgrade: h2c\r\nTE: trailers\r\n"
            )
            status, body = await ask(port, plain(there, fields, b"hello"))
            assert (status, body) == (b"HTTP/1.1 200 OK", b"ok")
            head, _, sent = recorder.got.partition(b"\r\n\r\n")
            assert head.split(b"\r\n") == [
                b"PUT /v2/a?b=c HTTP/1.1",
                f"host: 127.0.0.1:{there}".encode(),
                b"content-length: 5",
                b"accept: x",
                b"connection: close",
            ]
            assert sent == b"hello"

    run(check())


def test_a_chunked_body_is_framed_anew() -> None:
    async def check() -> None:
        wanted = b"5\r\nhello\r\n0\r\n\r\n"
        recorder = Recorder(len(wanted))
        async with server(recorder) as there, proxy() as port:
            body = b"5;extension=1\r\nhello\r\n0\r\n\r\n"
            assert (await ask(port, plain(there, "Transfer-Encoding: chunked\r\n", body)))[1] == b"ok"
            assert recorder.got.partition(b"\r\n\r\n")[2] == wanted

    run(check())


def test_a_second_request_on_the_same_connection_goes_nowhere() -> None:
    async def check() -> None:
        got = asyncio.get_running_loop().create_future()

        async def everything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            data = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.2)
            got.set_result(data + bytes(reader._buffer))  # type: ignore[attr-defined]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with server(everything) as there:
            policy = Policy(registries=("registry.example.com",), proxies={"http": f"http://127.0.0.1:{there}"})
            async with proxy(policy) as port:
                one = b"GET http://registry.example.com/ HTTP/1.1\r\nHost: registry.example.com\r\n\r\n"
                two = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
                await ask(port, one + two)
                assert (await got).startswith(b"GET http://registry.example.com/ HTTP/1.1\r\nhost: registry.example.com\r\n")
                assert b"evil" not in await got

    run(check())


def test_a_client_that_waits_to_send_its_body_is_told_to() -> None:
    async def check() -> None:
        recorder = Recorder(5)
        async with server(recorder) as there, proxy() as port:
            reader, writer = await talk(port, plain(there, "Content-Length: 5\r\nExpect: 100-continue\r\n"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert (await reader.read()).endswith(b"ok")
            writer.close()
            assert recorder.got.endswith(b"hello") and b"xpect" not in recorder.got

    run(check())
