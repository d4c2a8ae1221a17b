"""What registries say about the policy's entries: image ids by entry, asked for on a throttled cycle and kept on disk.

Every entry has at most one question on its way. A registry that cannot be reached changes nothing; one that says that a tag
or a manifest is gone removes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cofferdam_guest.apiproxy.images.client import Gone, Logins
from cofferdam_guest.apiproxy.images.local import LocalImage
from cofferdam_guest.apiproxy.images.resolve import Registry, image_ids
from cofferdam_guest.apiproxy.images.store import DIGESTS_LIMIT, Store
from cofferdam_guest.apiproxy.images.web import Unreachable
from cofferdam_guest.config.references import ANY_TAG, Reference

PERIOD = 120.0
"""Seconds between two rounds."""
RETRY = 20.0
"""Seconds after a round in which a registry could not be reached."""
_AT_ONCE = 4


class Knowledge:
    """Ids of the allowed images.

    Args:
        entries: references of the policy.
        registry: who is asked.
        store: where it is kept.
        clock: seconds, monotonic.
        architectures: see `resolve.runnable`.
    """

    def __init__(
        self,
        entries: Iterable[Reference],
        registry: Registry,
        store: Store,
        clock: Callable[[], float],
        architectures: frozenset[str],
    ) -> None:
        self._entries = tuple(entries)
        self._registry, self._store, self._clock, self._architectures = registry, store, clock, architectures
        self._saved = store.load(map(str, self._entries))
        self._known = {entry: dict(each) for entry, each in self._saved.items()}
        self._due = clock()
        self._round: asyncio.Task[None] | None = None
        self._locks = {entry: asyncio.Lock() for entry in self._entries}
        self._asked: set[tuple[Reference, str]] = set()
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._saving = asyncio.Lock()
        self.trouble: dict[Reference, str] = {}
        """Why an entry could not be asked for when that was tried last."""
        self.store_trouble = ""
        """Why what is known could not be kept when that was tried last."""

    def entry_of(self, image: LocalImage) -> Reference | None:
        """The entry that allows an image, by what is known now."""
        for entry in self._entries:
            if any(image.id in ids for ids in self._known.get(str(entry), {}).values()):
                return entry
            if entry.digest and any((each.name, each.digest) == (entry.name, entry.digest) for each in image.digests):
                return entry
        return None

    async def refresh(self, logins: Logins | None = None) -> None:
        """Run a round if one is due, or wait for the one that is running."""
        if self._round is None or self._round.done():
            if self._clock() < self._due:
                return
            self._round = asyncio.create_task(self._all(logins))
        await asyncio.shield(self._round)

    async def close(self) -> None:
        """Give up the round that is running."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    async def learn(self, image: LocalImage, logins: Logins | None = None) -> None:
        """Ask once a round about digests of the image that no answer has named yet: the image may be newer than the round."""
        for entry in self._entries:
            for each in image.digests:
                digest = each.digest or ""
                if entry.digest or each.name != entry.name or digest in self._known.get(str(entry), {}):
                    continue
                if (entry, digest) not in self._asked:
                    self._asked.add((entry, digest))
                    await self._guarded(entry, digest, logins)
        await self._save()

    async def _all(self, logins: Logins | None) -> None:
        # Noted before and after: a round that fails half-way must not be the reason for the next one at once.
        self._due = self._clock() + RETRY
        self._asked.clear()
        good = await asyncio.gather(*(self._guarded(entry, None, logins) for entry in self._entries))
        self._due = self._clock() + (PERIOD if all(good) else RETRY)
        await self._save()

    async def _guarded(self, entry: Reference, digest: str | None, logins: Logins | None) -> bool:
        async with self._locks[entry], self._limit:
            known = dict(self._known.get(str(entry), {}))
            try:
                await self._update(entry, digest, known, logins)
                self.trouble.pop(entry, None)
                return True
            except Unreachable as error:
                self.trouble[entry] = str(error)
                return False
            finally:
                self._known[str(entry)] = known

    async def _update(
        self, entry: Reference, digest: str | None, known: dict[str, frozenset[str]], logins: Logins | None
    ) -> None:
        if entry.digest:
            if entry.digest not in known:
                await self._add(entry, entry.digest, known, logins)
        elif entry.tag != ANY_TAG:
            await self._follow(entry, known, logins)
        elif digest is not None:
            await self._add(entry, digest, known, logins)
        else:
            for each in list(known):
                try:
                    await self._registry.digest(entry, each, logins)
                except Gone:
                    del known[each]

    async def _follow(self, entry: Reference, known: dict[str, frozenset[str]], logins: Logins | None) -> None:
        try:
            digest = await self._registry.digest(entry, entry.tag or "", logins)
        except Gone:
            known.clear()
            return
        # What the tag was before is not allowed any more, whether or not the new manifest can be read.
        for other in set(known) - {digest}:
            del known[other]
        if not known:
            await self._add(entry, digest, known, logins)

    async def _add(self, entry: Reference, digest: str, known: dict[str, frozenset[str]], logins: Logins | None) -> None:
        try:
            ids = await image_ids(self._registry, entry, digest, self._architectures, logins)
        except Gone:
            return
        while len(known) >= DIGESTS_LIMIT:
            del known[next(iter(known))]
        known[digest] = ids

    async def _save(self) -> None:
        async with self._saving:
            now = {entry: dict(each) for entry, each in self._known.items() if each}
            if now != self._saved:
                try:
                    await asyncio.to_thread(self._store.save, now)
                except OSError as error:
                    self.store_trouble = str(error)
                else:
                    self._saved, self.store_trouble = now, ""
