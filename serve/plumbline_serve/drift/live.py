"""Counts the scores that one process gives, in slices of time that are dropped when they are old."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
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
        decimals: Of the scores that callers are shown, and give back as a reference; None: all.
    """

    def __init__(self, window_s: float, clock: Callable[[], float] = time.time, *, decimals: int | None = None) -> None:
        self._slice_s = window_s / NUM_SLICES
        self._decimals = decimals
        self.clock = clock
        self._lock = threading.Lock()
        self._slices: Slices = {}
        self._changed: set[tuple[int, str]] = set()

    def scored(self, scorer: str, value: float, image: ImageStatistics | None) -> None:
        """Count one score, as callers are shown it.

        Args:
            scorer: That gave it, as `counted_as` has it.
            value: It; finite.
            image: What the image is like, where that is known.
        """
        with self._lock:
            number = self._now()
            self._changed.add((number, scorer))
            slice_ = self._slices[number]
            window = slice_.get(scorer) or slice_.setdefault(scorer, Window())
            window.scores[binned(value if self._decimals is None else round(float(value), self._decimals))] += 1
            if image is not None:
                for name in STATISTICS:
                    counts = window.images.get(name) or window.images.setdefault(name, Counter())
                    counts[binned(getattr(image, name))] += 1

    def slices(self) -> Slices:
        """A copy of what is counted, without what is old by now; the newest slice still grows."""
        with self._lock:
            self._now()
            return merged([self._slices])

    def changed(self, scorers: Collection[str], most: int) -> list[tuple[int, str]]:
        """Slices of scorers that grew since they were asked for here, the oldest first.

        Args:
            scorers: Whose slices; those of others stay.
            most: To give.
        """
        with self._lock:
            self._now()
            found = sorted(key for key in self._changed if key[1] in scorers)[:most]
            self._changed.difference_update(found)
            return found

    def unkept(self, keys: Iterable[tuple[int, str]]) -> None:
        """Have slices count as grown: nobody has got them."""
        with self._lock:
            self._changed.update(keys)

    def copy(self, number: int, scorer: str) -> Window:
        """One slice as it is now.

        Args:
            number: Of the slice.
            scorer: Its name.
        """
        found = Window()
        with self._lock:
            found.add(self._slices.get(number, {}).get(scorer, Window()))
        return found

    @property
    def number(self) -> int:
        """Of the slice that grows now."""
        return int(self.clock() // self._slice_s)

    def _now(self) -> int:
        """The number of the slice that grows now, which is there."""
        number = self.number
        if number not in self._slices:
            self._slices = {old: each for old, each in self._slices.items() if number - NUM_SLICES < old < number}
            self._slices[number] = {}
            self._changed = {key for key in self._changed if key[0] in self._slices}
        return number
