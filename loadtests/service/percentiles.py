"""Percentiles of what was seen: never beyond it, and never of too little."""

import math
import statistics
from collections.abc import Sequence

NUM_BEYOND = 3
"""Samples that must lie above a percentile, so that it is not the largest one under another name."""


class TooFewSamplesError(ValueError):
    """A percentile was asked of fewer samples than it takes."""


def needed(percent: int) -> int:
    """Samples that a percentile from 1 to 99 takes: 6 for the 50th, 60 for the 95th, 300 for the 99th."""
    return math.ceil(NUM_BEYOND * 100 / (100 - percent))


def require(num_samples: int, percent: int) -> None:
    """Let a program refuse before it measures.

    Raises:
        TooFewSamplesError: So few samples do not make that percentile.
    """
    if num_samples < needed(percent):
        raise TooFewSamplesError(
            f"The {percent}th percentile takes {needed(percent)} samples or more; there are {num_samples}."
        )


def percentile(samples: Sequence[float], percent: int) -> float:
    """A percentile from 1 to 99, between the samples around it where it falls between two.

    Raises:
        TooFewSamplesError: There are too few samples.
    """
    require(len(samples), percent)
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def in_ms(latencies_s: Sequence[float]) -> dict[str, float]:
    """The 50th, 95th and 99th percentile in milliseconds; those left out that there are too few samples for."""
    found = [latency * 1000 for latency in latencies_s]
    return {f"p{percent}_ms": percentile(found, percent) for percent in (50, 95, 99) if len(found) >= needed(percent)}
