"""Which range of ids is next: arithmetic only, no state."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

ID_LIMIT = 1 << 32


class PoolExhausted(Exception):
    """Every range is in use."""


class Pool:
    """`count` ranges of `size` ids each, the first one beginning at id `first`."""

    __slots__ = ("count", "first", "size")

    def __init__(self, first: int, size: int, count: int) -> None:
        if first < 1 or size < 1 or count < 1:
            raise ValueError("first, size and count of the id pool must be positive")
        # the last id of all means "no id" to the kernel
        if first + size * count >= ID_LIMIT:
            raise ValueError("the id pool does not fit into 32 bits")
        self.first = first
        self.size = size
        self.count = count

    def lowest_free(self, used: Collection[int]) -> int:
        """Return the lowest range start that is not in `used`. Raises PoolExhausted."""
        for index in range(self.count):
            base = self.first + index * self.size
            if base not in used:
                return base
        raise PoolExhausted(f"all {self.count} id ranges are in use")
