"""Decoded images of requests under way, at hand for the next encoder that asks for them, within a bound of bytes.

A small file may hold many pixels: 2 MB of PNG can be 2 GB of them. What a process holds decoded must therefore not grow
with the number of images that callers send.
"""

import threading
from collections.abc import Hashable, Iterable

from cachetools import FIFOCache

from plumbline_models.core.arrays import Pixels


class DecodedImages:
    """Pixels by whose they are, the oldest making room for the newest; for any thread.

    Args:
        max_bytes: Of all pixels together; an image that takes more by itself is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._kept: FIFOCache[Hashable, Pixels] = FIFOCache(max_bytes, getsizeof=lambda pixels: pixels.nbytes)
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """What the pixels take."""
        return int(self._kept.currsize)

    def get(self, owner: Hashable) -> Pixels | None:
        """The pixels, if they are still here."""
        with self._lock:
            return self._kept.get(owner)

    def put(self, owner: Hashable, pixels: Pixels) -> None:
        """Keep the pixels for a while, if there is room for them at all."""
        if pixels.nbytes <= self._kept.maxsize:
            with self._lock:
                self._kept[owner] = pixels

    def forget(self, owners: Iterable[Hashable]) -> None:
        """Let go of the pixels of these."""
        with self._lock:
            for owner in owners:
                self._kept.pop(owner, None)
