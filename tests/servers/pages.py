"""The status page with a source that a test changes: the real server on a real port, in a thread."""

from __future__ import annotations

import dataclasses
import http.client
import threading
from typing import Any
from urllib.parse import urlsplit

from cofferdam.machine.denied import Denied
from cofferdam.page.model import Container, Engine, IdRange, Policy, View
from cofferdam.page.serve import PageServer, listener

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"&"
FACTS = (
    ("State", "running"),
    ("Profile", "default"),
    ("Accelerator", "tcg"),
    ("Kernel", "7.3.4-cofferdam"),
    ("Processors", "2"),
    ("Memory", "2048 MiB"),
    ("Data disk", "1.2 GiB of 20.0 GiB"),
    ("Docker", "tcp://127.0.0.1:42045"),
)
VALUES = (("registries", '["registry.example.com", "*.corp.example"]'), ("command_mode", '"deny"'), ("block_load", "true"))


def container(name: str, number: int = 0, state: str = "running") -> Container:
    return Container(name, "alpine:3", state, IdRange(100000 + 65536 * number, 65536) if state == "running" else None)


def refusal(number: int, rule: str = "host-namespace", **values: Any) -> Denied:
    reason = "cofferdam containers can't share namespaces [pid] with the host"
    values = {"request": "POST /v1.44/containers/create", "reason": reason, **values}
    return Denied.model_validate({"time": 1_764_164_123 + number, "rule": rule, "number": number, **values})


class TestSource:
    """A view that a test sets."""

    __test__ = False

    def __init__(self) -> None:
        self.current = View("box", True, FACTS, Engine((container("web"),)), Policy("ab" * 32, VALUES))

    def view(self) -> View:
        return self.current

    def set(self, **values: Any) -> None:
        self.current = dataclasses.replace(self.current, **values)


class Page:
    """A page that is served until closed."""

    def __init__(self) -> None:
        self.source = TestSource()
        self.listener = listener(0)
        self.server = PageServer(self.source, self.listener)
        self.port = int(self.listener.getsockname()[1])
        self.root = f"/{self.server.keys.path}/"
        self.ended: bool | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.ended = self.server.run()

    def get(self, path: str, *, method: str = "GET", host: str | None = None, **headers: str) -> http.client.HTTPResponse:
        """An answer, read whole (`.body`)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        fields = {
            "Host": self.server.host if host is None else host,
            **{key.replace("_", "-"): value for key, value in headers.items()},
        }
        try:
            connection.request(method, path, headers=fields)
            answer = connection.getresponse()
            answer.body = answer.read().decode()  # type: ignore[attr-defined]
            return answer
        finally:
            connection.close()

    def enter(self) -> str:
        """Follow the link; the cookie."""
        link = urlsplit(self.server.url)
        answer = self.get(f"{link.path}?{link.query}")
        assert (answer.status, answer.getheader("location")) == (303, self.root)
        return str(answer.getheader("set-cookie")).partition(";")[0]

    def close(self) -> None:
        self.server.stop()
        self.thread.join(60)
        self.listener.close()
        assert not self.thread.is_alive()
