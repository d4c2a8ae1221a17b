"""Which image may mount the Docker socket: judged by what the registry says about its content, never by a name.

How a verdict comes about, and why no step can be forged by someone who has the Docker API only:

1. The image that a container names is turned into its id by dockerd. The id is the SHA-256 of the image's configuration, which
   names the SHA-256 of every layer; dockerd compares both with the content at pull, load and build, and the configuration
   again whenever it reads it (its image/fs.go, image/tarexport/load.go). Other content has another id.
2. The policy's entry is asked for at its registry, by https: the manifest that a tag names at present, and from the manifest
   (of an index: from those of the platforms that this machine runs) the digests of configurations. Every manifest's bytes are
   compared with the digest that was asked for. `docker tag`, `load`, `import`, `build` and `commit` do not reach a registry,
   and who can push to an allowed repository is trusted by the policy that allows it.
3. Allowed is an image whose id is among these. A retagged image keeps its own id and stays refused.
4. RepoDigests, which dockerd notes at pull and push, are a hint for `:*`: they say which of the repository's manifests to ask
   for; that the repository has it is the registry's word, and the id is compared as above. For an entry with a digest they are
   enough by themselves, without the network: dockerd computes the digest over the manifest it pulled or pushed, so that only
   the content that the entry names can have it, whatever repository it came through.
5. A derived image (when the policy allows them) has all layers of an allowed image below its own. This is a help for local
   builds, not a boundary: whoever may start `docker:cli` may run anything in it.

A registry that cannot be reached changes nothing: what was known last holds, over restarts too, without limit of time. An
entry that was never answered allows nothing. When a tag has moved, the local copy of the old one is refused within two
minutes: `docker pull` is the cure, and what was pulled just now is asked about at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from cofferdam_guest.apiproxy.images.client import Logins
from cofferdam_guest.apiproxy.images.derived import parent_of
from cofferdam_guest.apiproxy.images.knowledge import RETRY, Knowledge
from cofferdam_guest.apiproxy.images.local import Engine, LocalImage, display_name, from_inspect
from cofferdam_guest.apiproxy.images.resolve import Registry, runnable
from cofferdam_guest.apiproxy.images.store import PATH, Store
from cofferdam_guest.config import references
from cofferdam_guest.config.policy import Policy
from cofferdam_guest.config.references import Reference

ANY_IMAGE = "*"
PATIENCE = 15.0
"""Seconds that a container's start waits for a registry before it is judged by what is known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image may mount the socket.

    Attributes:
        allowed: the verdict.
        reason: why, for the journal.
        name: normalised, without tag: for `denial`.
        id: id of the image that was judged; empty when none was. A name may stand for another image by the time dockerd reads it:
            compare the container's image with it, or hand the id on.
        missing: there is no such image; dockerd's own answer makes the client pull it.
    """

    allowed: bool
    reason: str
    name: str
    id: str = ""
    missing: bool = False


def denial(image: str) -> str:
    """The text of a refusal, as Docker's documentation has it.

    Args:
        image: the image's name; printed normalised and without tag.
    """
    return (
        f'enhanced container isolation: docker socket mount denied for container with image "{display_name(image, None)}"; '
        "image is not in the allowed list; if you wish to allow it, "
        "configure the docker socket image list in the Docker Desktop settings."
    )


class SocketImages:
    """Judges images for socket mounts.

    Args:
        policy: the effective policy.
        engine: dockerd.
        fetch: registries, usually a RegistryClient.
        store_path: where to keep what is known.
        clock: seconds, monotonic.
        architectures: what this machine runs, in Go's words.

    Raises:
        BadReference: the policy has an entry that is no reference; the loader lets none through.
    """

    def __init__(
        self,
        policy: Policy,
        engine: Engine,
        fetch: Registry,
        store_path: str = PATH,
        clock: Callable[[], float] = time.monotonic,
        architectures: frozenset[str] | None = None,
    ) -> None:
        listed = () if policy.denied else policy.socket_images
        self._any = ANY_IMAGE in listed
        self._entries = tuple(references.parse(entry) for entry in listed if entry != ANY_IMAGE)
        self._derived = policy.allow_derived
        self._engine = engine
        self._knowledge = Knowledge(self._entries, fetch, Store(store_path), clock, architectures or runnable())

    async def allowed(self, image: str, logins: Logins | None = None) -> Verdict:
        """Judge an image.

        Args:
            image: its name or id, as the container's configuration has it.
            logins: user and password by registry host, for private repositories.

        Raises:
            OSError: dockerd does not answer.
        """
        if self._any:
            return Verdict(True, "the policy allows every image", display_name(image, None))
        if not self._entries:
            return Verdict(False, "the policy allows no image", display_name(image, None))
        document = await self._engine.image(image)
        if document is None:
            return Verdict(False, "there is no such image", display_name(image, None), missing=True)
        found = from_inspect(document)
        name = display_name(image, found)
        if found is None:
            return Verdict(False, "dockerd names no id for the image", name)
        allowed, reason = await self._judge(found, logins)
        return Verdict(allowed, reason, name, found.id)

    async def refresh(self, logins: Logins | None = None) -> None:
        """Ask the registries, if that is due."""
        await self._knowledge.refresh(logins)

    async def run(self) -> None:
        """Ask the registries again and again, until cancelled. Ends at once when there is nothing to ask."""
        try:
            while self._entries and not self._any:
                await self.refresh()
                await asyncio.sleep(RETRY)
        finally:
            await self._knowledge.close()

    async def _judge(self, image: LocalImage, logins: Logins | None) -> tuple[bool, str]:
        async def entry_of(each: LocalImage) -> Reference | None:
            return await self._entry_of(each, logins)

        if (entry := await entry_of(image)) is not None:
            return True, f"the image is that of {entry}"
        if self._derived and (parent := await parent_of(image, self._entries, self._engine, entry_of)):
            return True, f"the image is built from that of {parent}"
        return False, self._refusal()

    async def _entry_of(self, image: LocalImage, logins: Logins | None) -> Reference | None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._knowledge.refresh(logins)
                if self._knowledge.entry_of(image) is None:
                    await self._knowledge.learn(image, logins)
        except TimeoutError:
            pass  # what is known decides
        return self._knowledge.entry_of(image)

    def _refusal(self) -> str:
        trouble = [f"{entry} ({why})" for entry, why in self._knowledge.trouble.items()]
        unknown = f"; not known at present: {', '.join(sorted(trouble))}" if trouble else ""
        return f"the image is none of those that the policy allows{unknown}"
