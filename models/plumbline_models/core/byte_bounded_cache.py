"""Keeps what was made lately, up to a size; for one thread at a time."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteBoundedCache(Generic[K, V]):
    """The values used last; the newest is kept whatever it takes.

    Args:
        max_bytes: Of all values together.
        size_of: Bytes that a value takes.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        # A value larger than all that may be kept counts as just that, and stands alone.
        self._values: LRUCache[K, V] = LRUCache(max_bytes, getsizeof=lambda value: min(size_of(value), max_bytes))

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value under a key, made where it is not there."""
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
