"""The status page over HTTP: who gets it, what it says, how it ends. The server is the real one, on a loopback port."""

from __future__ import annotations

import html
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from cofferdam.errors import InstanceError
from cofferdam.page.app import MOST_STREAMS
from cofferdam.page.engine import Engine
from cofferdam.page.model import Policy
from cofferdam.page.serve import listener
from servers.pages import HOSTILE, Page, container, refusal


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page()
    yield made
    made.close()


def test_only_the_loopback_listens(page):
    assert page.listener.getsockname()[0] == "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):
        socket.create_connection((own, page.port), timeout=5).close()


def test_a_port_in_use_is_an_error_with_a_next_step(page):
    with pytest.raises(InstanceError, match=f"port {page.port} of this machine cannot be had") as caught:
        listener(page.port)
    assert "--port" in caught.value.hint


def test_without_the_link_there_is_nothing(page):
    key, link = page.server.keys, urlsplit(page.server.url)
    cookie = f"cofferdam={key.session}"
    for path, headers in {
        "/": {},
        "/favicon.ico": {},
        "/static/page.js": {},
        link.path: {},
        f"{link.path}events": {},
        f"{link.path}static/page.js": {},
        f"{link.path}?token=": {},
        f"{link.path}?token={key.token[:-1]}": {},
        f"/wrong/?{link.query}": {},
        f"{link.path}./": {"Cookie": "cofferdam=" + key.session[:-1]},
        "/events": {"Cookie": cookie},
        f"/{key.path[:-1]}/": {"Cookie": cookie},
    }.items():
        answer = page.get(path, **headers)
        assert answer.status == 403, path
        assert "web" not in answer.body and "box" not in answer.body
    page.enter()


def test_the_link_works_once_and_then_the_cookie(page):
    cookie = page.enter()
    link = urlsplit(page.server.url)
    again = page.get(f"{link.path}?{link.query}")
    assert again.status == 403 and "inv page" in again.body
    answer = page.get(page.root, Cookie=cookie)
    assert answer.status == 200 and "<title>box · Cofferdam</title>" in answer.body
    assert page.get(page.root, Cookie=f"other=1; {cookie}; x=y").status == 200
    for path in ("static/page.js", "static/page.css", "static/icon.svg"):
        assert page.get(page.root + path, Cookie=cookie).status == 200
    assert page.get(f"{page.root}static/../app.py", Cookie=cookie).status == 404
    assert page.get(f"{page.root}static/%2e%2e/app.py", Cookie=cookie).status == 404


def test_the_cookie_goes_nowhere_else(page):
    """Containers publish ports on the same address: a cookie for all of it would be theirs."""
    link = urlsplit(page.server.url)
    attributes = page.get(f"{link.path}?{link.query}").getheader("set-cookie").split("; ")[1:]
    assert {each.lower() for each in attributes} == {"httponly", f"path={page.root}".lower(), "samesite=strict"}
    assert len(page.server.keys.path) >= 32


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1.evil.example:{port}"])
def test_another_name_for_this_address_is_refused(page, host):
    cookie = page.enter()
    answer = page.get(page.root, host=host.format(port=page.port), Cookie=cookie)
    assert answer.status in (400, 421) and "web" not in answer.body


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_may_not_ask(page, site):
    cookie = page.enter()
    assert page.get(page.root, Cookie=cookie, Sec_Fetch_Site=site).status == 403
    assert page.get(page.root, Cookie=cookie, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_nothing_can_be_done(page, method):
    cookie = page.enter()
    for path in (page.root, f"{page.root}events"):
        assert page.get(path, method=method, Cookie=cookie).status == 405


def test_every_answer_has_the_security_headers(page):
    cookie = page.enter()
    answers = [
        page.get("/"),
        page.get(page.root, host="evil.example"),
        page.get(page.root, method="POST"),
        page.get(page.root, Cookie=cookie),
        page.get(f"{page.root}static/page.js", Cookie=cookie),
        page.get(f"{page.root}none", Cookie=cookie),
    ]
    assert [answer.status for answer in answers] == [403, 421, 405, 200, 200, 404]
    for answer in answers:
        policy = answer.getheader("content-security-policy")
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.getheader("referrer-policy") == "no-referrer"
        assert answer.getheader("cache-control") == "no-store"
        assert answer.getheader("x-content-type-options") == "nosniff"
        assert answer.getheader("access-control-allow-origin") is None


def test_the_page_has_nothing_inline(page):
    body = page.get(page.root, Cookie=page.enter()).body
    assert "style=" not in body and " on" not in body.replace(" once", "").replace(" one", "")
    assert body.count("<script") == 1 and '<script src="static/page.js" defer></script>' in body
    assert "http://" not in body.replace("tcp://", "") and "https://" not in body


@pytest.mark.parametrize("place", ["container", "image", "state", "refusal", "problem", "policy", "facts"])
def test_what_the_machine_says_is_text(page, place):
    odd = container(HOSTILE)
    values = {
        "container": {"engine": Engine((odd,))},
        "image": {"engine": Engine((type(odd)("web", HOSTILE, "running"),))},
        "state": {"engine": Engine((type(odd)("web", "x", HOSTILE),))},
        "refusal": {"denied": (refusal(1, "device", reason=HOSTILE, request=HOSTILE),)},
        "problem": {"engine": Engine(problem=HOSTILE)},
        "policy": {"policy": Policy(HOSTILE, ((HOSTILE, HOSTILE),), (HOSTILE,))},
        "facts": {"facts": ((HOSTILE, HOSTILE),)},
    }
    page.source.set(**values[place])
    cookie = page.enter()
    with Stream(page, cookie) as stream:
        shown = stream.sections(4)
        while HOSTILE not in html.unescape("".join(shown.values())):
            shown |= stream.sections(1)
        live = "".join(shown.values())
    for text in (page.get(page.root, Cookie=cookie).body, live):
        assert "<img" not in text and "<script>" not in text
        assert HOSTILE in html.unescape(text)


class Stream:
    """The events of a page."""

    def __init__(self, page: Page, cookie: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
        self._connection.request("GET", f"{page.root}events", headers={"Host": page.server.host, "Cookie": cookie})
        self.answer = self._connection.getresponse()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self._connection.close()

    def next(self) -> tuple[str, dict[str, str]]:
        """The next event."""
        kind = ""
        while line := self.answer.readline().decode():
            word, _, value = line.rstrip("\n").partition(": ")
            if word == "event":
                kind = value
            elif word == "data":
                return kind, json.loads(value)
        return "", {}

    def sections(self, count: int) -> dict[str, str]:
        """The next so many sections."""
        found = {}
        for _ in range(count):
            kind, value = self.next()
            assert kind == "section"
            found[value["name"]] = value["html"]
        return found


def test_changes_come_by_themselves_and_only_they(page):
    with Stream(page, page.enter()) as stream:
        assert stream.answer.getheader("content-type").startswith("text/event-stream")
        first = stream.sections(4)
        assert first.keys() == {"instance", "containers", "denied", "policy"}
        assert "100000" in first["containers"] and "Nothing was refused" in first["denied"]
        page.source.set(engine=Engine((container("web"), container("db", 1))))
        (shown,) = stream.sections(1).items()
        assert shown[0] == "containers" and "165536" in shown[1]
        page.source.set(denied=(refusal(1),))
        (shown,) = stream.sections(1).items()
        assert shown[0] == "denied" and "can&#39;t share namespaces [pid]" in shown[1]


def test_the_page_ends_with_the_instance_and_says_so(page):
    with Stream(page, page.enter()) as stream:
        stream.sections(4)
        page.source.set(alive=False)
        assert "has ended" in stream.sections(1)["instance"]
        assert stream.next() == ("end", {"name": "box"})
        assert stream.next() == ("", {}), "and the stream is over"
    page.thread.join(60)
    assert page.ended is True


def test_an_open_window_does_not_keep_the_page_up(page):
    with Stream(page, page.enter()) as stream:
        stream.sections(4)
        page.close()
        assert page.ended is False


def test_a_source_that_fails_is_no_quiet_end(page):
    caught = []
    original, threading.excepthook = threading.excepthook, lambda args: caught.append(args.exc_value)
    try:
        page.source.view = lambda: 1 / 0
        page.thread.join(60)
    finally:
        threading.excepthook = original
    assert isinstance(caught[0], ZeroDivisionError)


def test_windows_have_a_bound(page):
    cookie = page.enter()
    streams = [Stream(page, cookie) for _ in range(MOST_STREAMS)]
    for stream in streams:
        stream.sections(1)
    with Stream(page, cookie) as late:
        assert late.answer.status == 503
    for stream in streams:
        stream.__exit__()


def test_no_secret_is_in_what_is_logged(page, capfd, caplog):
    caplog.set_level(0)
    cookie = page.enter()
    page.get(page.root, Cookie=cookie)
    page.get("/", Cookie=cookie)
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as rough:
        rough.sendall(f"GET {page.root}?token={page.server.keys.token} HTP/9\r\nCookie: {cookie}\r\n\r\n".encode())
        assert b"400" in rough.recv(4096)
    told = "".join([*capfd.readouterr(), caplog.text])
    for secret in (page.server.keys.path, page.server.keys.token, page.server.keys.session):
        assert secret not in told
