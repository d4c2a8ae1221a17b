"""Ways in and out: ports of this machine, docker contexts, the resolver, proxy variables, whose values are not shown."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from cofferdam.doctor.model import Finding, ok, warn
from cofferdam.doctor.space import existing
from cofferdam.machine import current
from cofferdam.machine.channels import free_port, port_is_free
from cofferdam.machine.context import DockerContext, description_of, docker_config, instance_context, owner_of
from cofferdam.machine.instance import Instance, instances

RESOLV = Path("/etc/resolv.conf")
DNS_PORT = 53
PATIENCE = 2.0
"""Seconds that a name server has to answer."""

_LOOPBACK = "127.0.0.1"
# QEMU's network takes no more than this many name servers of the host.
_SERVERS = 3
_NOWHERE = "Run `inv status`, which tidies up; where that does not know the instance: docker context use default"


def ports() -> Finding:
    """A port on the loopback address can be had, and those that stopped instances had are still free.

    Raises:
        InstanceError: there is no free port.
    """
    free_port()
    idle = [instance for instance in instances() if not instance.alive]
    taken = [f"{port} of instance {each.name}" for each in idle for port in each.last_ports.values() if not port_is_free(port)]
    if taken:
        return warn(f"used by other programs: {', '.join(taken)}", "Nothing to do: the next boot takes another port.")
    return ok(f"ports on {_LOOPBACK} can be had")


def docker_contexts() -> Finding:
    """Whether `docker --context cofferdam` can be made and will be heeded, and whether the current context leads somewhere.

    Raises:
        ConfigUnusable: docker's config.json cannot be read.
    """
    if found := current.overridden():
        return warn(f"{' and '.join(found)} set: the docker context in use is not looked at", f"unset {' '.join(found)}")
    place = existing(docker_config())
    if not os.access(place, os.W_OK | os.X_OK):
        return warn(f"{place} cannot be written", f"Mend {place}, or set DOCKER_CONFIG to a directory that can be written.")
    contexts = [instance_context(each.name, each.directory) for each in (Instance("default"), *instances())]
    theirs = sorted({each.name for each in contexts if description_of(each) not in (None, each.description)})
    if theirs:
        return warn(f"made by somebody else: {', '.join(theirs)}", f"docker context rm {' '.join(theirs)}")
    name = current.current(docker_config())
    if not current.exists(docker_config(), name):
        return warn(f"docker's current context {name} does not exist", "docker context use default")
    if _leads_nowhere(name):
        return warn(f"docker's current context {name} leads to an instance that does not run", _NOWHERE)
    return ok(f"docker contexts go to {docker_config()}")


def _leads_nowhere(name: str) -> bool:
    """Whether a context is one of ours, of an instance that does not run or is gone, in whatever state home."""
    found = owner_of(DockerContext(name, "", docker_config()))
    return found is not None and not Instance(found.name, found.parent.parent).alive


def resolver() -> Finding:
    """A name server with an IPv4 address, which QEMU's network hands on to the guest, answers."""
    lines = RESOLV.read_text(encoding="utf-8", errors="replace").splitlines() if RESOLV.exists() else []
    servers = [words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver" and _is_ipv4(words[1])]
    if not servers:
        return warn(
            f"{RESOLV} names no IPv4 name server: the guest cannot resolve names", f"Add `nameserver ADDRESS` to {RESOLV}."
        )
    silent = [server for server in servers[:_SERVERS] if not _answers(server)]
    if silent:
        return warn(f"no answer from {', '.join(silent)} within {PATIENCE:.0f} s", f"Check the network and {RESOLV}.")
    return ok(f"{', '.join(servers[:_SERVERS])} answers")


def _is_ipv4(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(text).version == 4
    return False


def _answers(server: str) -> bool:
    """Ask for the root's name servers (RFC 1035); any answer will do, a refusal too."""
    identity = secrets.token_bytes(2)
    query = identity + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x00\x02\x00\x01"
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.connect((server, DNS_PORT))
        asking.send(query)
        return asking.recv(4096)[:2] == identity
    return False


def proxies() -> Finding:
    """Proxy variables make sense and leave this machine's own ports alone."""
    found = {name: value for name, value in urllib.request.getproxies_environment().items() if name != "no"}
    if not found:
        return ok("no proxy variables")
    names = ", ".join(sorted(f"{name}_proxy" for name in found))
    broken = sorted(f"{name}_proxy" for name, value in found.items() if not _is_proxy(value))
    if broken:
        return warn(f"no address of a proxy: {', '.join(broken)}", "Write it as http://HOST:PORT, or unset it.")
    if not urllib.request.proxy_bypass(_LOOPBACK):
        hint = f'export no_proxy="${{no_proxy:+$no_proxy,}}localhost,{_LOOPBACK}"'
        return warn(f"{names} set, and {_LOOPBACK} is not in no_proxy: Docker's port there may not be reached", hint)
    return ok(f"{names} set; {_LOOPBACK} is exempt")


def _is_proxy(value: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(value)
        return bool(parts.scheme and parts.hostname) and (parts.port is None or parts.port > 0)
    return False
