"""Decoded images of requests under way, at hand for the next encoder that asks for them, within a bound of bytes.

A small file may hold many pixels: 2 MB of PNG can be 2 GB of them. What a process holds decoded must therefore not grow
with the number of images that callers send.
"""

import threading
from typing import TypeAlias

from cachetools import FIFOCache

from plumbline_models.core.arrays import Pixels

PixelsName: TypeAlias = object
"""An `object()` for each image of a request: so that what is kept by it holds nothing else."""


class DecodedImages:
    """Pixels of all requests, the oldest making room for the newest.

    Pixels are all that it holds: neither the requests nor the files that the pixels came from.

    Args:
        max_bytes: Of all pixels together; an image that takes more by itself is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._kept: FIFOCache[PixelsName, Pixels] = FIFOCache(max_bytes, getsizeof=lambda pixels: pixels.nbytes)
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """What the pixels take."""
        return int(self._kept.currsize)

    def open(self) -> "RequestPixels":
        """One request's part."""
        return RequestPixels(self._kept, self._lock)


class RequestPixels:
    """One request's part; for any thread. Once it is closed it keeps nothing, also of what is decoded only then."""

    def __init__(self, kept: "FIFOCache[PixelsName, Pixels]", lock: threading.Lock) -> None:
        self._kept = kept
        self._lock = lock
        self._names: set[PixelsName] | None = set()

    def get(self, name: PixelsName) -> Pixels | None:
        """The pixels, if they are still here."""
        with self._lock:
            return self._kept.get(name)

    def put(self, name: PixelsName, pixels: Pixels) -> None:
        """Keep the pixels for a while, if there is room for them at all."""
        with self._lock:
            if self._names is not None and pixels.nbytes <= self._kept.maxsize:
                self._names.add(name)
                self._kept[name] = pixels

    def close(self) -> None:
        """Let go of all of them, for good."""
        with self._lock:
            for name in self._names or ():
                self._kept.pop(name, None)
            self._names = None
