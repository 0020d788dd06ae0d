"""What units of work ask for, and how long such units take."""

from collections.abc import Hashable
from typing import Final, NamedTuple

_MEMORY: Final = 0.98
"""What a unit leaves of the weight of those before it, of its kind: about 50 count."""

_SLOWEST: Final = 25.0
"""Times the first pace: the dearest kinds take 4 times that on an idle core, and a core may be shared."""


class Work(NamedTuple):
    """What a unit asks for, as far as known before it starts."""

    kind: Hashable
    """Units of a kind take time by their size."""
    size: float
    """Above 0: pixels, characters or bytes, and what stands for the effort that every unit takes."""


class Pace:
    """Learns how long units take: the recent seconds of a kind by its recent sizes; for any thread.

    Where two threads learn at once, one of the two units may not count. What a unit takes beyond any belief does not
    count either: a file whose size is other than its header says must not make all of its kind look slow.

    Args:
        first: Seconds per size of a kind that is new.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._sums: dict[Hashable, tuple[float, float]] = {}

    def seconds(self, work: Work) -> float:
        """What a unit is expected to take."""
        seconds, size = self._sums.get(work.kind, (self._first, 1.0))
        return work.size * seconds / size

    def learn(self, work: Work, seconds: float) -> None:
        """A unit took so long."""
        seconds = min(seconds, _SLOWEST * self._first * work.size)
        past_seconds, past_size = self._sums.get(work.kind, (0.0, 0.0))
        self._sums[work.kind] = past_seconds * _MEMORY + seconds, past_size * _MEMORY + work.size
