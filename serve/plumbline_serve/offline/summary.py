"""What the scores of an output are like: how many, their mean, their quantiles, how scorers go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FIRST_KEPT = 1024
MAX_KEPT = 2**20
"""Rows that quantiles and correlations are of; of more rows every second, fourth, … is kept."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScorerSummary:
    """One scorer's values."""

    name: str
    num: int
    """Rows with a value, all of them."""
    mean: float
    low: float
    high: float
    quantiles: tuple[float, ...]
    """At `QUANTILES`; NaN where there is no value."""


@dataclass(slots=True)
class Sample:
    """Values of all scorers for some of the rows, evenly spaced; NaN where a row has none.

    Args:
        names: Of the scorers.
    """

    names: Sequence[str]
    max_kept: int = MAX_KEPT
    stride: int = 1
    num_rows: int = 0
    num: NDArray[np.int64] = field(init=False)
    total: Values = field(init=False)
    low: Values = field(init=False)
    high: Values = field(init=False)
    _kept: Values = field(init=False)
    _num_kept: int = 0

    def __post_init__(self) -> None:
        shape = len(self.names)
        self.num = np.zeros(shape, np.int64)
        self.total = np.zeros(shape)
        self.low = np.full(shape, np.inf)
        self.high = np.full(shape, -np.inf)
        self._kept = np.empty((min(FIRST_KEPT, self.max_kept), shape))

    def add(self, line: Mapping[str, float | None]) -> None:
        """Take a row.

        Args:
            line: Its values by scorer.
        """
        found = [np.nan if (value := line.get(name)) is None else float(value) for name in self.names]
        for index, value in enumerate(found):
            if value == value:  # noqa: PLR0124 - no NaN
                self.num[index] += 1
                self.total[index] += value
                self.low[index] = min(self.low[index], value)
                self.high[index] = max(self.high[index], value)
        if self.num_rows % self.stride == 0:
            self._keep(found)
        self.num_rows += 1

    @property
    def values(self) -> Values:
        """`[kept rows, scorers]`, NaN where there is no value."""
        return self._kept[: self._num_kept]

    def _keep(self, found: Sequence[float]) -> None:
        if self._num_kept == self.max_kept:
            thinned = self._kept[::2]
            self._num_kept = len(thinned)
            self._kept[: self._num_kept] = thinned.copy()
            self.stride *= 2
            if self.num_rows % self.stride:
                return
        elif self._num_kept == len(self._kept):
            more = min(len(self._kept), self.max_kept - len(self._kept))
            self._kept = np.concatenate([self._kept, np.empty((more, len(self.names)))])
        self._kept[self._num_kept] = found
        self._num_kept += 1

    def summaries(self) -> list[ScorerSummary]:
        """One for each scorer, in order."""
        values = self.values
        return [
            ScorerSummary(
                name,
                int(self.num[index]),
                float(self.total[index] / self.num[index]) if self.num[index] else float("nan"),
                float(self.low[index]),
                float(self.high[index]),
                quantiles(values[:, index]),
            )
            for index, name in enumerate(self.names)
        ]


def quantiles(values: Values) -> tuple[float, ...]:
    """Linear between neighbours, at `QUANTILES`; NaN of none.

    Args:
        values: `[N]`, NaN where there is none.
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return (float("nan"),) * len(QUANTILES)
    return tuple(float(each) for each in np.quantile(present, QUANTILES))


def rank_correlation(first: Values, second: Values) -> float:
    """Spearman's, of rows that have both values; NaN of fewer than two, or where one is constant.

    Args:
        first: `[N]`, NaN where there is none.
        second: Likewise.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    ranks = [rankdata(each[both]) for each in (first, second)]
    deviations = [each - each.mean() if len(each) else each for each in ranks]
    norm = float(np.sqrt(np.sum(deviations[0] ** 2) * np.sum(deviations[1] ** 2)))
    return float(np.sum(deviations[0] * deviations[1])) / norm if norm else float("nan")
