"""Rows of past requests, the least recently used making room; each kind of row within bytes of its own."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cachetools import LRUCache

from plumbline_models.core.protocols import EncoderKind, Encoding
from plumbline_serve.encoding_cache.keys import EncodingKey

ENTRY_BYTES = 640
"""What a kept row takes beside its content: the name, its digest, the entry, and the places in the LRU order."""


@dataclass(frozen=True, slots=True)
class StoredEncoding:
    """A row in memory of its own, for rows are often views of a whole batch, which they would keep alive."""

    pickled: bytes
    buffers: tuple[bytes, ...]
    """The contents of its arrays, which the rows made of it borrow and cannot write to."""

    @classmethod
    def of(cls, row: Encoding) -> Self:
        """Keep a row."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(row, protocol=5, buffer_callback=buffers.append)
        return cls(pickled, tuple(buffer.raw().tobytes() for buffer in buffers))

    def row(self) -> Encoding:
        """The row, its arrays read-only."""
        return pickle.loads(self.pickled, buffers=self.buffers)  # noqa: S301 - pickled by this process, never left it


class EncodingStore:
    """Keeps rows by name; for one thread.

    Args:
        max_bytes: Of all rows of a kind; a kind that is missing or has 0 is not kept.
    """

    def __init__(self, max_bytes: Mapping[EncoderKind, int]) -> None:
        self._kept: dict[EncoderKind, LRUCache[EncodingKey, StoredEncoding]] = {
            kind: LRUCache(size, getsizeof=_num_bytes) for kind, size in max_bytes.items() if size
        }

    def num_bytes(self, kind: EncoderKind) -> int:
        """What the rows of a kind take."""
        cache = self._kept.get(kind)
        return 0 if cache is None else int(cache.currsize)

    def get(self, name: EncodingKey) -> Encoding | None:
        """The row, if it is kept."""
        cache = self._kept.get(name.kind)
        kept = None if cache is None else cache.get(name)
        return None if kept is None else kept.row()

    def put(self, name: EncodingKey, row: Encoding) -> None:
        """Keep a row, unless it alone is larger than what its kind may take."""
        cache = self._kept.get(name.kind)
        if cache is None:
            return
        kept = StoredEncoding.of(row)
        if _num_bytes(kept) <= cache.maxsize:
            cache[name] = kept


def _num_bytes(kept: StoredEncoding) -> int:
    return ENTRY_BYTES + len(kept.pickled) + sum(len(buffer) for buffer in kept.buffers)
