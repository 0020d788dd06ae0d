"""Which batch sizes are run: few enough that a launch recorded for one is often used again, near enough to all others.

Sizes grow by factors of 4/3 and 3/2 in turn, 1 2 3 4 6 8 12 16 24 32 48 64, so at most a third of a batch is padding.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final

MAX_RECORDED: Final = 32
"""Recorded launches that one engine keeps; each pins some memory of the driver."""


def bucket_of(num_rows: int, largest: int, *, num_an_octave: int = 2) -> int:
    """The smallest size that is run for so many rows.

    Args:
        num_rows: At least 1, at most `largest`.
        largest: What the engine takes; a size itself.
        num_an_octave: Sizes from one power of two to the next, a power of two itself.
    """
    power = 1 << (num_rows - 1).bit_length()
    step = max(1, power // (2 * num_an_octave))
    return min(largest, math.ceil(num_rows / step) * step)


class Launch(Enum):
    """How a batch of some shape is launched."""

    PLAIN = auto()
    """Kernel by kernel: the shape is new, or rare."""
    RECORD = auto()
    """Recorded while it runs."""
    REPLAY = auto()
    """As it was recorded."""


class LaunchPlan:
    """Decides what is recorded: shapes that come again, the latest of them; for one thread at a time."""

    def __init__(self, max_recorded: int = MAX_RECORDED) -> None:
        self._max_recorded = max_recorded
        self._seen: OrderedDict[Hashable, bool] = OrderedDict()

    def decide(self, shape: Hashable) -> Launch:
        """How to launch a batch of this shape; one that is to be recorded counts as recorded."""
        was_recorded = self._seen.pop(shape, None)
        self._seen[shape] = was_recorded is not None
        if was_recorded is None:
            return Launch.PLAIN
        return Launch.REPLAY if was_recorded else Launch.RECORD

    def forget(self, shape: Hashable) -> None:
        """Record nothing of this shape after all."""
        self._seen.pop(shape, None)

    def forget_all(self) -> None:
        """What was recorded is of no use any more, since memory moved."""
        self._seen.clear()

    def surplus(self) -> list[Hashable]:
        """Take the shapes that have gone unused for longest off the plan, and say which they are."""
        dropped: list[Hashable] = []
        while len(self._seen) > self._max_recorded:
            dropped.append(self._seen.popitem(last=False)[0])
        return dropped
