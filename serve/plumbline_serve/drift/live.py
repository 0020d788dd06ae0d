"""Counts the scores that one process gives, in slices of time that are dropped when they are old."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from plumbline_models.images.image_statistics import ImageStatistics
from plumbline_serve.drift.windows import STATISTICS, Slices, Window, binned, merged

NUM_SLICES: Final = 6
"""Of a window: the oldest is dropped when a new one begins."""


class LiveWindows:
    """The window of each scorer that ends now; for any thread.

    Args:
        window_s: Its length.
        clock: Seconds since the epoch: slices of all machines begin together.
    """

    def __init__(self, window_s: float, clock: Callable[[], float] = time.time) -> None:
        self._slice_s = window_s / NUM_SLICES
        self._clock = clock
        self._lock = threading.Lock()
        self._slices: Slices = {}

    def scored(self, scorer: str, value: float, image: ImageStatistics | None) -> None:
        """Count one score.

        Args:
            scorer: That gave it.
            value: It; finite.
            image: What the image is like, where that is known.
        """
        with self._lock:
            window = self._now().setdefault(scorer, Window())
            window.scores[binned(value)] += 1
            if image is not None:
                for name in STATISTICS:
                    window.images.setdefault(name, Counter())[binned(getattr(image, name))] += 1

    def slices(self) -> Slices:
        """A copy of what is counted, without what is old by now; the newest slice still grows."""
        with self._lock:
            self._now()
            return merged([self._slices])

    @property
    def number(self) -> int:
        """Of the slice that grows now."""
        return int(self._clock() // self._slice_s)

    def _now(self) -> dict[str, Window]:
        number = self.number
        if number not in self._slices:
            self._slices = {old: each for old, each in self._slices.items() if number - NUM_SLICES < old < number}
            self._slices[number] = {}
        return self._slices[number]
