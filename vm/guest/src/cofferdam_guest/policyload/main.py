"""Once before dockerd: decides on the policy and writes what the proxy, the engine and dockerd read.

Whatever is wrong ends in a policy that denies everything and says why; the exit status is 0 then, so that dockerd starts and can
tell. Only when the files themselves cannot be written does it fail, and there is nothing to start dockerd with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cofferdam_guest.config import engine
from cofferdam_guest.config.authorities import BUNDLE
from cofferdam_guest.config.network import Network
from cofferdam_guest.config.policy import Policy, canonical_json, deny_all
from cofferdam_guest.policyload.decision import Decision, decide
from cofferdam_guest.policyload.documents import daemon_document, engine_document, refusing
from cofferdam_guest.policyload.handover import bundle, read_network
from cofferdam_guest.policyload.shares import CREDENTIAL, mount_shares

_WARNING, _ERROR, _INFO = "<4>", "<3>", "<6>"


@dataclass(frozen=True)
class Places:
    """Where everything lies; a test has other ones.

    Attributes:
        baked: the image's policy.
        boot: the one handed over at boot.
        settings: the image's settings of the engine.
        daemon: the image's daemon.json.
        shares: what the host offers to share.
        out: directory of what is written.
        network: what the host says of its network.
        authorities: certificates that it adds.
        system: the image's own certificates.
        bundle: both, for dockerd, the API proxy and containers that mount it.
    """

    baked: str = "/etc/cofferdam/admin-settings.json"
    boot: str = "/run/cofferdam/boot-policy/admin-settings.json"
    settings: str = engine.BAKED
    daemon: str = "/etc/docker/daemon.json"
    shares: str = CREDENTIAL
    out: str = os.path.dirname(engine.PATH)
    network: str = "/run/cofferdam/boot-policy/network.json"
    authorities: str = "/run/cofferdam/boot-policy/ca.pem"
    system: str = "/etc/ssl/certs/ca-certificates.crt"
    bundle: str = BUNDLE


def main() -> int:
    """Load the policy of this machine; the exit status."""
    load(Places(), lambda line: print(line, flush=True))
    return 0


def load(places: Places, tell: Callable[[str], None]) -> Policy:
    """Decide, write, tell.

    Args:
        places: where to read and write.
        tell: takes a line for the journal, with its level in front as systemd reads it.

    Raises:
        OSError: the files could not be written.
    """
    decision = decide(places.baked, places.boot)
    policy, more = decision.policy, list[str]()
    network = read_network(places.network, more)
    shared = [] if policy.denied else mount_shares(policy.shares, more.append, path=places.shares)
    try:
        texts = _documents(places, policy, network, shared)
    except (OSError, ValueError, engine.SettingsError) as error:
        policy = deny_all(f"the image's own settings cannot be used: {error}")
        texts = _without_base(places, policy)
    # Always there, so that a container may mount it whatever the machine was booted with.
    directory, name = os.path.split(places.bundle)
    write(directory, {name: bundle(places.system, places.authorities, more)}, 0o444)
    write(places.out, {name: text + "\n" for name, text in texts.items()})
    for line in [*(f"{_WARNING}{line}" for line in more), *_lines(Decision(policy, decision.lines))]:
        tell(line)
    return policy


def write(directory: str, files: dict[str, str], mode: int = 0o600) -> None:
    """Write files, each as a whole or not at all, for root only unless `mode` says otherwise."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for name, text in files.items():
        temporary = f"{directory}/.{name}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(fd, mode)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, f"{directory}/{name}")


def _documents(places: Places, policy: Policy, network: Network, shares: Sequence[str]) -> dict[str, str]:
    # The proxy's file comes last: when it is there, so are the others.
    return {
        "engine.json": _json(engine_document(_text(places.settings), policy, shares)),
        "daemon.json": _json(daemon_document(_text(places.daemon), policy, network)),
        "network.json": network.as_text(),
        "effective.json": canonical_json(policy),
    }


def _without_base(places: Places, policy: Policy) -> dict[str, str]:
    """The files when one of the image's own is unusable; dockerd keeps its configuration where that one is good."""
    try:
        daemon = daemon_document(_text(places.daemon), policy)
    except (OSError, ValueError):
        daemon = daemon_document("{}", policy)
    return {
        "engine.json": _json(refusing(policy.denied)),
        "daemon.json": _json(daemon),
        "network.json": Network().as_text(),
        "effective.json": canonical_json(policy),
    }


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _lines(decision: Decision) -> list[str]:
    policy = decision.policy
    lines = [f"{_WARNING}policy: {line}" for line in decision.lines]
    if policy.denied:
        return [*lines, f"{_ERROR}policy: everything is denied: {policy.denied}"]
    return [*lines, f"{_INFO}policy {policy.sha256} from {' and '.join(policy.sources)}"]


if __name__ == "__main__":
    sys.exit(main())
