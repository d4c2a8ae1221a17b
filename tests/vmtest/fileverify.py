"""Random writes of random sizes to one file, by several ways, held against a copy in memory; run in a container.

Usage: python3 -m vmtest.fileverify SECONDS SEED, in the shared directory. Leaves `verified` and prints its SHA-256 and what was done;
ends with a message at the first byte that is read otherwise than it was written.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import sys
import time

SIZE = 48 << 20
LARGEST = 1 << 20


class Verified:
    """One file and what has to be in it.

    Attributes:
        done: what was done how often, and bytes that were written and read.
    """

    def __init__(self, path: str, dice: random.Random) -> None:
        self.path, self.dice, self.model = path, dice, bytearray(SIZE)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.ftruncate(self.fd, SIZE)
        self.done = dict.fromkeys(("pwrite", "map", "cut", "fsync", "reopen", "check", "written", "read"), 0)

    def piece(self) -> tuple[int, bytes]:
        """A place and what to write there; small ones are as likely as large ones."""
        length = min(int(2 ** self.dice.uniform(0, 20)), LARGEST)
        return self.dice.randrange(SIZE - length), self.dice.randbytes(length)

    def pwrite(self) -> None:
        start, data = self.piece()
        assert os.pwrite(self.fd, data, start) == len(data)
        self.note(start, data)

    def map(self) -> None:
        start, data = self.piece()
        with mmap.mmap(self.fd, SIZE) as view:
            view[start : start + len(data)] = data
        self.note(start, data)

    def cut(self) -> None:
        """Take off the end and let it grow again: it reads as zeros."""
        start = SIZE - self.dice.randrange(1, LARGEST)
        os.ftruncate(self.fd, start)
        os.ftruncate(self.fd, SIZE)
        self.note(start, bytes(SIZE - start))

    def fsync(self) -> None:
        os.fsync(self.fd)

    def reopen(self) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def check(self) -> None:
        start, data = self.piece()
        self.compare(start, os.pread(self.fd, len(data), start))

    def note(self, start: int, data: bytes) -> None:
        self.model[start : start + len(data)] = data
        self.done["written"] += len(data)

    def compare(self, start: int, found: bytes) -> None:
        self.done["read"] += len(found)
        expected = self.model[start : start + len(found)]
        if found != expected:
            first = next(place for place, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
            sys.exit(f"byte {start + first} is {found[first]}, and not {expected[first]}, after {self.done}")


def main(seconds: float, seed: int) -> None:
    file = Verified("verified", random.Random(seed))
    steps = [file.pwrite] * 8 + [file.check] * 8 + [file.map] * 3 + [file.reopen, file.fsync, file.cut]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step = file.dice.choice(steps)
        step()
        file.done[step.__name__] += 1
    os.close(file.fd)
    with open(file.path, "rb") as again:
        start = 0
        while data := again.read(LARGEST):
            file.compare(start, data)
            start += len(data)
    print(json.dumps({"sha256": hashlib.sha256(file.model).hexdigest(), **file.done}))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
