"""Keeps what was made lately, up to a size; for one thread at a time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class KeptBySize(Generic[K, V]):
    """The values asked for last; the newest is kept whatever it takes.

    Args:
        max_bytes: Of all values together.
        size_of: Bytes that a value takes.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value under a key, made where it is not there."""
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > 1 and self._num_bytes > self._max_bytes:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()

    @property
    def _num_bytes(self) -> int:
        return sum(map(self._size_of, self._values.values()))
