"""Whether numbers are still drawn as they were: the population stability index with a p-value, entropy, an e-value.

The index, Siddiqi, "Credit Risk Scorecards", 2006, is `sum((p - q) ln(p / q))` over the shares p and q of two windows
in bins. Fixed limits for it, 0.1 and 0.25, are wrong both ways: 100 against 100 numbers of one law pass 0.25 in half of
all cases, and a shift by a quarter of a standard deviation never reaches it. Over `1 / n + 1 / m` the index has about
the law of chi-square with one degree of freedom less than there are bins, Yurdakul, "Statistical Properties of
Population Stability Index", 2018, which gives the p-value here. Bins are quantiles of the first window, and each has
half a number added, so that an empty one does not decide.

Entropy, e-value and the weighing of signals are those of "Label-Free Governance" (governance-drift-toolkit), but summed
in a fixed order, so that a severity is the same in each process. What no number here can see is that the right answers
change while the scores do not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.decisions.fields import invalid

NUM_BINS: Final = 10
LEAST_NUMBERS: Final = 100
"""A window with fewer says nothing."""
ADDED: Final = 0.5
"""To each bin, so that an empty one has a share."""
E_LIMIT: Final = 20.0
"""An e-value from here on: 1 in 20 at most where nothing drifts, however often one looks."""
_TOLERANCE: Final = 1e-9  # of a sum of weights and the line that it lies on
_STAKE: Final = 0.5  # of an e-value, per window

Severity: TypeAlias = Literal["none", "low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("none", "low", "medium", "high", "critical")
LINES: Final = (0.3, 0.5, 0.7)
"""From where on a severity is medium, high, critical."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one window is from another."""

    psi: float
    """0 or more."""
    p_value: float
    """How often windows of one law are as far apart, or farther."""


def quantile_edges(values: Sequence[float] | NDArray[np.float64], num_bins: int = NUM_BINS) -> list[float]:
    """Where to part values into bins of about as many each.

    Args:
        values: At least one; finite.
        num_bins: At most so many, and fewer where values tie.

    Returns:
        Inner edges, ascending; a value that equals one is in the bin above it. Each bin holds one of the values.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    wanted = [ordered[(len(ordered) * part) // num_bins] for part in range(1, num_bins)]
    return [float(edge) for edge in np.unique(wanted) if edge > ordered[0]]


def counted(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """Values per bin.

    Args:
        values: Any.
        edges: As of `quantile_edges`; there is one bin more.
    """
    places = np.searchsorted(np.asarray(edges, np.float64), np.asarray(list(values), np.float64), side="right")
    return [int(each) for each in np.bincount(places, minlength=len(edges) + 1)]


def psi(reference: Sequence[float], current: Sequence[float], *, added: float = ADDED) -> float:
    """The population stability index of two windows.

    Args:
        reference: Numbers per bin.
        current: The same, in the same bins.
        added: To each bin of both; `1e-8` as the toolkit has it, whose index an empty bin blows up.

    Returns:
        0 or more.
    """
    ours, theirs = _shares(reference, added), _shares(current, added)
    return math.fsum((theirs - ours) * np.log(theirs / ours))


def shift(reference: Sequence[float], current: Sequence[float]) -> Shift:
    """How far two windows are apart, and how often chance takes windows of one law as far.

    Args:
        reference: Numbers per bin, two bins or more.
        current: The same, in the same bins.
    """
    from scipy.special import chdtrc  # noqa: PLC0415 - takes long to import, and few need it

    found = psi(reference, current)
    scale = 1.0 / math.fsum(reference) + 1.0 / math.fsum(current)
    return Shift(found, float(chdtrc(len(reference) - 1, found / scale)))


def entropy(probabilities: Sequence[float]) -> float:
    """How undecided an answer is, in units of the most that it could be.

    Args:
        probabilities: Of each answer, two or more, together 1; or of the one answer of two, by itself.

    Returns:
        0 where one answer is certain, 1 where all are as probable.
    """
    each = [probabilities[0], 1.0 - probabilities[0]] if len(probabilities) == 1 else list(probabilities)
    return -math.fsum(p * math.log(p) for p in each if p > 0.0) / math.log(len(each))


def mean_shift(reference: tuple[float, float, int], current: tuple[float, float, int]) -> float:
    """The p-value of two means being those of one law, for many numbers of any law.

    Args:
        reference: Sum, sum of squares and how many, two or more.
        current: The same.

    Returns:
        In [0, 1]; 1 where neither varies and both are the same.
    """
    (first, first_var), (second, second_var) = _mean(*reference), _mean(*current)
    scale = math.sqrt(first_var + second_var)
    if scale == 0.0:
        return 1.0 if first == second else 0.0
    return math.erfc(abs(first - second) / scale / math.sqrt(2.0))


def e_step(e_value: float, score: float, *, line: float = 0.5) -> float:
    """The e-value after one window more.

    It is a bet against `nothing drifts` that is fair or worse for whoever makes it as long as the scores' mean is at
    the line or below, so that it reaches 20 in 1 of 20 cases at most.

    Args:
        e_value: 1 before the first window.
        score: In [0, 1], the larger the more it looks like drift: one less the p-value of a window, say.
        line: Its largest mean where nothing drifts.
    """
    return e_value * (1.0 + _STAKE * (score - line) / line)


def composite(triggered: Iterable[str], weights: Mapping[str, float]) -> float:
    """The weight of the signals that fired, of all that there are.

    Args:
        triggered: Names among those of `weights`.
        weights: Of each signal that could fire; above 0.

    Returns:
        0 where none did, 1 where all did.
    """
    fired = set(triggered)
    return math.fsum(weight for name, weight in weights.items() if name in fired) / math.fsum(weights.values())


def severity(score: float, lines: Sequence[float] = LINES) -> Severity:
    """How grave a composite is.

    Args:
        score: As of `composite`.
        lines: From where on it is medium, high, critical; a score on a line has reached it, however it was rounded.

    Returns:
        `none` for 0.
    """
    if score <= 0.0:
        return "none"
    return SEVERITIES[1 + sum(score >= line - _TOLERANCE for line in lines)]


def check_values(values: Sequence[float], field: str = "/values") -> NDArray[np.float64]:
    """The values of a window to compare others with.

    Args:
        values: From a caller.
        field: JSON pointer to them.

    Raises:
        InvalidFieldError: They are too few, not finite, or all the same.
    """
    found = np.asarray(values, np.float64)
    if len(found) < LEAST_NUMBERS:
        raise invalid(field, f"has {len(found)} numbers; at least {LEAST_NUMBERS} are needed")
    for index in np.flatnonzero(~np.isfinite(found)):
        raise invalid(f"{field}/{index}", "is not a finite number")
    if found.min() == found.max():
        raise invalid(field, "are all the same, so that nothing can be told from them")
    return found


def _shares(counts: Sequence[float], added: float) -> NDArray[np.float64]:
    smoothed = np.asarray(counts, np.float64) + added
    return np.asarray(smoothed / math.fsum(smoothed), np.float64)


def _mean(total: float, squares: float, num: int) -> tuple[float, float]:
    """The mean, and the variance of it."""
    mean = total / num
    return mean, max(0.0, squares / num - mean * mean) / (num - 1)
