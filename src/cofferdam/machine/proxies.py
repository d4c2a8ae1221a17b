"""The desktop's way out as the VM is told of it: proxy variables, or `--proxy`, with this machine's loopback as the VM sees it.

No message here holds a login.
"""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cofferdam.errors import UsageError

NONE = "none"
DESKTOP = "10.0.2.2"
"""This machine's loopback, seen from the VM."""
_LONGEST = 2048
_HINT = "Write http://[USER:PASSWORD@]HOST[:PORT], or unset the variable; `inv boot --proxy none` uses none (docs/network.md)."


@dataclass(frozen=True)
class Proxies:
    """What the VM is told.

    Attributes:
        urls: `http` and `https`; with logins. `no`: hosts that are reached without.
        shown: the same proxies for people, without logins.
    """

    urls: dict[str, str] = field(default_factory=dict, repr=False)
    shown: str = ""


def chosen_proxies(option: str) -> Proxies:
    """The proxies of a boot.

    Args:
        option: of the command line: an address, `none`, or empty for the variables of this environment.

    Raises:
        UsageError: an address that cannot be used; the message names the option or the variable.
    """
    if option == NONE:
        return Proxies()
    variables = urllib.request.getproxies_environment()
    given = {kind: (f"{kind}_proxy", variables[kind]) for kind in ("http", "https") if variables.get(kind)}
    if option:
        given = dict.fromkeys(("http", "https"), ("--proxy", option))
    parts = {kind: _parts(name, url) for kind, (name, url) in given.items()}
    if not parts:
        return Proxies()
    urls = {kind: _url(each) for kind, each in parts.items()}
    if exempt := variables.get("no"):
        urls["no"] = exempt[:_LONGEST]
    shown = dict.fromkeys(f"{_host(each)}:{each.port or 80} (from {given[kind][0]})" for kind, each in parts.items())
    return Proxies(urls, ", ".join(shown))


def _parts(name: str, url: str) -> SplitResult:
    """Raises UsageError."""
    problem = ""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host, problem = urlsplit(""), None, "no address of a proxy"
    if not problem and parts.scheme != "http":
        problem = f"proxies that are reached by {parts.scheme}:// are not supported, only http://"
    elif not host or len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        problem = "no address of a proxy"
    elif parts.path not in ("", "/") or parts.query or parts.fragment:
        problem = "a proxy has no path"
    if problem:
        raise UsageError(f"{name}: {problem}", hint=_HINT)
    return parts


def _url(parts: SplitResult) -> str:
    login = parts.netloc.rpartition("@")[0]
    if login:
        user, colon, password = login.partition(":")
        login = f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}@"
    return f"http://{login}{_host(parts)}:{parts.port or 80}"


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return DESKTOP
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return DESKTOP if address.is_loopback else f"[{host}]" if address.version == 6 else host
    return host
