"""Values kept within a bound of bytes: encodings, decoded pixels, matrices of captions, prefixes of prompts."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Literal, TypeVar

from cachetools import Cache, FIFOCache, LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteBoundedCache(Generic[K, V]):
    """Values by key, of which some make room for new ones; for any thread.

    Args:
        max_bytes: Of all values together; 0 keeps none.
        size_of: Bytes that a value takes.
        evicts: Which value makes room first.
        keeps_newest: Whether a value larger than `max_bytes` is kept all the same, alone; else it is not kept.
    """

    def __init__(
        self,
        max_bytes: int,
        size_of: Callable[[V], int],
        *,
        evicts: Literal["least recently used", "oldest"] = "least recently used",
        keeps_newest: bool = False,
    ) -> None:
        kind = FIFOCache if evicts == "oldest" else LRUCache
        self._values: Cache[K, V] = kind(max_bytes, getsizeof=lambda value: min(size_of(value), max_bytes))
        self._max_bytes, self._size_of, self._keeps_newest = max_bytes, size_of, keeps_newest
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """What all values take."""
        return int(self._values.currsize)

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._values

    def get(self, key: K) -> V | None:
        """The value, if it is kept."""
        with self._lock:
            return self._values.get(key)

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value, made and kept if it is not there.

        Args:
            key: Under which it is kept.
            make: Called without the lock: two threads at once may both make it.
        """
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value, unless it alone is too large.

        Args:
            key: Under which `get` finds it.
            value: Not None.
        """
        if self._keeps_newest or self._size_of(value) <= self._max_bytes:
            with self._lock:
                self._values[key] = value

    def pop(self, key: K) -> None:
        """Let go of a value, if it is kept."""
        with self._lock:
            self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)
