"""Who may see the page: whoever has the link, once, and then the browser that followed it. Everything else gets a short no.

A cookie of 127.0.0.1 goes to every port there, and containers publish theirs on that address. So the page lies below a random
path, which is the cookie's: a browser sends it nowhere else.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "cofferdam"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_OWN_SITE = ("same-origin", "none")
_NO_LINK = "This page needs the link that `inv page` printed. A link works once: for another browser, run `inv page` again.\n"


def _random() -> str:
    return secrets.token_urlsafe(32)


def same(given: str, wanted: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


@dataclass
class Keys:
    """The secrets of one page: its path, the token of its link, and what the browser's cookie holds."""

    path: str = field(default_factory=_random)
    token: str = field(default_factory=_random)
    session: str = field(default_factory=_random)
    used: bool = False


class Guard:
    """Stands before the page; everything that is sent, its own refusals included, has the security headers.

    Args:
        page: what is guarded.
        keys: the page's secrets.
        host: the only `Host` that is served: a name that somebody else points at 127.0.0.1 is another one.
    """

    def __init__(self, page: ASGIApp, keys: Keys, host: str) -> None:
        self._page, self._keys, self._host = page, keys, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if scope["type"] == "http":
            answer = self.judge(Request(scope)) or self._page
            await answer(scope, receive, send_safely)

    def judge(self, request: Request) -> Response | None:
        """The answer to a request that the page itself does not get; none for one that it does."""
        if request.headers.getlist("host") != [self._host]:
            return PlainTextResponse(f"This is not {self._host}.\n", 421)
        if request.method != "GET":
            return PlainTextResponse("Nothing can be done here.\n", 405, {"allow": "GET"})
        if request.headers.get("sec-fetch-site", "none") not in _OWN_SITE:
            return PlainTextResponse("Another page may not ask for this one.\n", 403)
        root = f"/{self._keys.path}/"
        inside = same(request.scope["path"][: len(root)], root)
        if inside and (token := request.query_params.get("token")) is not None:
            return self._enter(token, root)
        if not (inside and same(_cookie(request.headers), self._keys.session)):
            return PlainTextResponse(_NO_LINK, 403)
        return None

    def _enter(self, token: str, root: str) -> Response:
        if not same(token, self._keys.token) or self._keys.used:
            return PlainTextResponse(_NO_LINK, 403)
        self._keys.used = True
        answer = RedirectResponse(root, 303)
        answer.set_cookie(COOKIE, self._keys.session, path=root, httponly=True, samesite="strict")
        return answer


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
