"""What is counted of scores given: how many lay where, in bins that are the same everywhere and for ever.

No number is kept as it was: each counts in one of some hundred bins, 8 significant bits wide, so that windows of
several processes add up, and a reference that is chosen later can be held against what was counted before.
"""

import math
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

from plumbline_models.decisions.drift import entropy

Counts: TypeAlias = Counter[float]
"""How many numbers lay in each bin, by its end that is nearer to 0."""
STATISTICS: Final = ("brightness", "edges", "entropy")
"""Of images, as `ImageStatistics` has them."""
_LEAST: Final = 1e-6  # in size: smaller numbers count as 0
_MOST: Final = 1e30


def binned(value: float) -> float:
    """The bin of a number: the number towards 0, to 8 significant bits.

    Args:
        value: Finite.
    """
    size = abs(value)
    if size < _LEAST:
        return 0.0
    cut: float = struct.unpack("<f", b"\0\0" + struct.pack("<f", min(size, _MOST))[2:])[0]
    return math.copysign(cut, value)


@dataclass(slots=True)
class Window:
    """What was counted of one scorer in some time."""

    scores: Counts = field(default_factory=Counter)
    images: dict[str, Counts] = field(default_factory=dict)
    """By statistic; of images that were decoded lately, which may be fewer than there are scores."""

    def add(self, other: "Window") -> None:
        """Count what another window has counted."""
        self.scores.update(other.scores)
        for name, counts in other.images.items():
            self.images.setdefault(name, Counter()).update(counts)

    @property
    def num_scores(self) -> int:
        """How many were given."""
        return self.scores.total()

    def document(self) -> dict[str, Any]:
        """As JSON, to be kept."""
        return {
            "scores": _columns(self.scores),
            "images": {name: _columns(counts) for name, counts in self.images.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """As `document` wrote it."""
        return cls(_counts(document["scores"]), {name: _counts(each) for name, each in document["images"].items()})


Slice: TypeAlias = dict[str, Window]
"""By scorer."""
Slices: TypeAlias = dict[int, Slice]
"""By number: of the slice's length that the clock has counted by its beginning, the same on each machine."""


def counted_as(scorer: str, made: str | None) -> str:
    """The name by which the scores of a scorer are counted.

    Args:
        scorer: Its name.
        made: When a classifier was made: scores of one that was made again are others; None: it is none.
    """
    return f"{scorer} {made}" if made else scorer


def merged(parts: Iterable[Slices]) -> Slices:
    """What several processes have counted, as one."""
    found: Slices = {}
    for slices in parts:
        for number, windows in slices.items():
            into = found.setdefault(number, {})
            for scorer, window in windows.items():
                into.setdefault(scorer, Window()).add(window)
    return found


def whole(slices: Slices, scorer: str) -> Window:
    """All slices of one scorer together.

    Args:
        slices: Of all scorers.
        scorer: Its name.
    """
    return summed(window for _, window in windows_of(slices, scorer))


def summed(windows: Iterable[Window]) -> Window:
    """Windows as one."""
    found = Window()
    for window in windows:
        found.add(window)
    return found


def windows_of(slices: Slices, scorer: str) -> Iterator[tuple[int, Window]]:
    """The slices of one scorer, the oldest first.

    Args:
        slices: Of all scorers.
        scorer: Its name.
    """
    for number in sorted(slices):
        if (window := slices[number].get(scorer)) is not None:
            yield number, window


def spread(counts: Mapping[float, int], edges: Sequence[float]) -> list[int]:
    """Numbers per bin of a reference, as `decisions.drift.counted` has them.

    Args:
        counts: In the fine bins.
        edges: Inner edges of the reference's.
    """
    into = [0] * (len(edges) + 1)
    for value, num in counts.items():
        into[bisect_right(edges, value)] += num
    return into


def entropies(counts: Mapping[float, int]) -> tuple[float, float, int]:
    """How undecided probabilities are: the sum of their entropies, the sum of the squares, and how many there are.

    Args:
        counts: Of probabilities, in the fine bins.
    """
    each = [(entropy([min(1.0, max(0.0, value))]), num) for value, num in sorted(counts.items())]
    total = math.fsum(num * found for found, num in each)
    return total, math.fsum(num * found * found for found, num in each), sum(num for _, num in each)


def _columns(counts: Counts) -> list[list[float]]:
    return [list(counts.keys()), list(counts.values())]


def _counts(columns: Sequence[Sequence[float]]) -> Counts:
    bins, nums = columns
    return Counter({value: int(num) for value, num in zip(bins, nums, strict=True)})
