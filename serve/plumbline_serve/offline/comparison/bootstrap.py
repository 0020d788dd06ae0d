"""How sure a mean difference is: the percentile bootstrap over prompts.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3. Images of one prompt go together, so
prompts are drawn with replacement, and not single images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_DRAWS = 4 * 10**8
"""Numbers that are drawn in all: of many prompts fewer resamples are made, which then differ little."""
MIN_RESAMPLES = 1000
AT_ONCE = 2 * 10**7


def interval(
    deltas: NDArray[np.float64], clusters: Sequence[str], *, seed: int, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """The interval of a mean.

    Args:
        deltas: `[N]`, at least one.
        clusters: The prompt of each.
        seed: Of the draws; the same gives the same interval.
        resamples: How many means are drawn.
        level: Share of means within the interval.

    Returns:
        Its ends; both are the mean where there is one prompt.
    """
    sums, counts = _by_cluster(deltas, clusters)
    num = len(sums)
    if num == 1:
        mean = float(deltas.mean())
        return mean, mean
    rng = np.random.default_rng(seed)
    resamples = max(MIN_RESAMPLES, min(resamples, MAX_DRAWS // num))
    means = np.empty(resamples)
    step = max(1, AT_ONCE // num)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        weights = rng.multinomial(num, np.full(num, 1 / num), size=size)
        means[first : first + size] = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_cluster(
    deltas: NDArray[np.float64], clusters: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([places[name] for name in clusters])
    sums: NDArray[np.float64] = np.bincount(index, deltas).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)
