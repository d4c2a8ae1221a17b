"""Registries and other hosts that images come from: names that the policy allows, and no host inside the VM.

Judged is what the request names. What dockerd and BuildKit then ask for on their own, a Dockerfile's `FROM` for example, is
judged where they connect.
"""

from __future__ import annotations

from cofferdam_guest.apiproxy.judge import addresses
from cofferdam_guest.apiproxy.judge.refusals import malformed, policy
from cofferdam_guest.apiproxy.judge.request import Request
from cofferdam_guest.config import references
from cofferdam_guest.config.policy import Policy

_LOAD = "docker load is blocked by the administrator (blockDockerLoad in admin-settings.json); pull from a registry instead"


def check_host(host: str, rules: Policy) -> None:
    """Judge `name` or `name:port` by the policy's list. Raises Denied."""
    if rules.registries is not None and not any(_matches(host.lower(), each.lower()) for each in rules.registries):
        raise policy("registry", f"registry access to {host} is not allowed")


def check_url(url: str, rules: Policy) -> None:
    """Judge an address that dockerd would fetch. Raises Denied."""
    host = addresses.host_of(url)
    if addresses.is_reserved(addresses.without_port(host)):
        raise policy("remote-address", f"{host} can't be fetched from: it stands for the VM or what is next to it")
    check_host(host, rules)


async def create(request: Request) -> Request:
    """Judge a pull, or an import. Raises Denied."""
    image, source = request.query.get("fromImage") or "", request.query.get("fromSrc") or ""
    if image:
        _check_image(image.removesuffix(":"), request.policy)
    elif source != "-":
        # dockerd's own completion
        check_url(source if "://" in source else f"http://{source}", request.policy)
    return request


async def by_name(request: Request) -> Request:
    """Judge a request to the registry of the image in the path: push, distribution. Raises Denied."""
    _check_image(request.params["name"], request.policy)
    return request


async def search(request: Request) -> Request:
    """Judge a search; a term can name the host to ask. Raises Denied."""
    first, slash, _ = (request.query.get("term") or "").partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    check_host(_canonical(first) if named else references.DEFAULT_HOST, request.policy)
    return request


async def login(request: Request) -> Request:
    """Judge whom credentials are tried at. Raises Denied."""
    address = (request.body or {}).get("serveraddress") or ""
    if address:
        host = addresses.host_of(address if "://" in address else f"https://{address}")
        check_host(_canonical(host), request.policy)
    else:
        check_host(references.DEFAULT_HOST, request.policy)
    return request


async def load(request: Request) -> Request:
    """Judge an image that comes with the request. Raises Denied."""
    if request.policy.block_load:
        raise policy("load", _LOAD)
    return request


def _check_image(text: str, rules: Policy) -> None:
    if rules.registries is None:
        return
    try:
        host = references.parse(text, wildcard=False).host
    except references.BadReference as error:
        raise malformed("image", f"invalid reference format: {error}") from error
    check_host(host, rules)


def _canonical(host: str) -> str:
    try:
        return references.host_of(host)
    except references.BadReference as error:
        raise malformed("registry", str(error)) from error


def _matches(host: str, rule: str) -> bool:
    """A rule names a host with its port, or with none; `*.` in front stands for every name below a domain."""
    if rule.startswith("*."):
        return host.endswith(rule[1:]) and len(host) > len(rule[1:])
    return host == rule
