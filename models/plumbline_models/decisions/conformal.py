"""Thresholds with a guarantee: split conformal prediction on scores whose right answer is known.

Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, chapters 2 and 4 (Mondrian: by groups); Vovk,
"Conditional validity of inductive conformal predictors", 2012 (the law of the coverage). With n scores and
`k = ceil((n + 1) (1 - alpha))`, a fresh one is within the k-th of them with probability `k / (n + 1)` or more, whatever
their law, as long as all are drawn alike. That is an average over calibrations: the coverage of one of them has the law
Beta(k, n + 1 - k) where scores do not tie.

The percentile of n scores, which stands in its place in CONFLARE's program, covers less: at n = 20 and alpha = 0.05 it
keeps 0.908, not 0.95.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from plumbline_models.decisions.fields import invalid

Direction: TypeAlias = Literal["keep_good", "reject_bad"]
"""`keep_good`: at most alpha of the good ones are lost. `reject_bad`: at most alpha of the bad ones pass."""
LOW_POINT: Final = 0.05
"""The coverage of a calibration is below `Threshold.coverage_p05` so often."""
_TOLERANCE: Final = 1e-12  # of what is computed in floats: a promise that is just kept is kept

G = TypeVar("G", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where to part good from bad."""

    value: float | None
    """What is at it or beyond, towards the better, is kept. None: too few scores for such a promise."""
    k: int
    """Which of the scores it is, from the better end for `keep_good`, from the worse end for `reject_bad`."""
    num_used: int
    """Scores that count: those of the good, or of the bad."""
    least_n: int
    """So many of them are needed."""
    coverage: float | None
    """The share, on average over calibrations, of good ones that are kept, or of bad ones that are rejected."""
    coverage_p05: float | None
    """What all but 5 in 100 calibrations reach, where scores do not tie."""


def calibrate(
    scores: Sequence[float],
    labels: Sequence[bool],
    *,
    alpha: float,
    direction: Direction,
    higher_is_better: bool = True,
    confidence: float | None = None,
) -> Threshold:
    """The threshold that keeps its promise on fresh scores drawn like these.

    Scores that tie with the threshold count against the caller: good ones are kept and bad ones are rejected, so that
    ties only add to the coverage.

    Args:
        scores: Of items whose label is known; finite.
        labels: Whether each is good.
        alpha: The share that may be lost, or may pass; in (0, 1).
        direction: Which of the two is promised.
        higher_is_better: Of the scores.
        confidence: None: the promise holds on average over calibrations. Else it holds for such a share of them, in
            (0, 1), which takes more scores.

    Raises:
        InvalidFieldError: One of them is not as said, or no number is beyond the bad ones.
    """
    values = _checked(scores, labels)
    _check_share("alpha", alpha)
    if confidence is not None:
        _check_share("confidence", confidence)
    is_used = np.asarray(labels, dtype=bool) == (direction == "keep_good")
    used = values[is_used]
    is_up = higher_is_better == (direction == "reject_bad")  # how far a score is on the side that must be cut off
    ordered = np.sort(used if is_up else -used)
    k, least_n = _rank(len(used), alpha, confidence), _least(alpha, confidence)
    if k > len(used):
        return Threshold(None, k, len(used), least_n, None, None)
    found = float(ordered[k - 1]) if is_up else -float(ordered[k - 1])
    if direction == "reject_bad":  # what is at it is rejected, so the next number is the first that is kept
        found = math.nextafter(found, math.inf if higher_is_better else -math.inf)
        if not math.isfinite(found):
            raise invalid("/scores", "go as far as numbers do, so that none is beyond them")
    low = beta_point(LOW_POINT, k, len(used) + 1 - k)
    return Threshold(found, k, len(used), least_n, k / (len(used) + 1), low)


def calibrate_with_groups(
    scores: Sequence[float],
    labels: Sequence[bool],
    groups: Sequence[G] | None,
    *,
    alpha: float,
    direction: Direction,
    higher_is_better: bool = True,
    confidence: float | None = None,
) -> tuple[Threshold, dict[G, Threshold]]:
    """The threshold of all, and one for each group, such as a class of prompts, which keeps its promise within it.

    Args:
        scores: As for `calibrate`.
        labels: As there.
        groups: The group of each score; None: there are none.
        alpha: As there.
        direction: As there.
        higher_is_better: As there.
        confidence: As there.

    Returns:
        That of all, and those of groups in the order in which they first come.

    Raises:
        InvalidFieldError: As there, or the lengths differ.
    """

    def found(chosen: Sequence[int]) -> Threshold:
        return calibrate(
            [scores[index] for index in chosen],
            [labels[index] for index in chosen],
            alpha=alpha,
            direction=direction,
            higher_is_better=higher_is_better,
            confidence=confidence,
        )

    _checked(scores, labels)
    members: dict[G, list[int]] = {}
    if groups is not None:
        _check_lengths("groups", len(groups), len(scores))
        for index, group in enumerate(groups):
            members.setdefault(group, []).append(index)
    return found(range(len(scores))), {group: found(chosen) for group, chosen in members.items()}


def beta_point(probability: float, a: float, b: float) -> float:
    """The point of the law Beta(a, b) that it is below with a probability.

    Args:
        probability: In [0, 1].
        a: Above 0.
        b: Above 0.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - takes long to import, and few need it

    return float(betaincinv(a, b, probability))


def _rank(n: int, alpha: float, confidence: float | None) -> int:
    """The k that keeps the promise with n scores; n + 1 where none does."""
    least = _rest(alpha)
    if confidence is None:
        return math.ceil((n + 1) * least)
    low, high = 1, n + 1
    while low < high:  # the point grows with k
        k = (low + high) // 2
        if beta_point(float(_rest(confidence)), k, n + 1 - k) >= float(least) * (1.0 - _TOLERANCE):
            high = k
        else:
            low = k + 1
    return low


def _least(alpha: float, confidence: float | None) -> int:
    """The least n for which there is a k."""
    if confidence is None:
        return math.ceil(1 / Fraction(str(alpha))) - 1
    found = math.log1p(-confidence) / math.log1p(-alpha)  # the largest of n has the law Beta(n, 1), which is x ** n
    return max(1, math.ceil(found * (1.0 - _TOLERANCE)))


def _rest(share: float) -> Fraction:
    """One less a share, as it is written: 20 * (1 - 0.05) is above 19 in floats."""
    return Fraction(1) - Fraction(str(share))


def _checked(scores: Sequence[float], labels: Sequence[bool]) -> NDArray[np.float64]:
    _check_lengths("labels", len(labels), len(scores))
    values = np.asarray(scores, dtype=np.float64)
    for index in np.flatnonzero(~np.isfinite(values)):
        raise invalid(f"/scores/{index}", "is not a finite number")
    return values


def _check_lengths(field: str, length: int, expected: int) -> None:
    if length != expected:
        raise invalid(f"/{field}", f"has {length} entries for {expected} scores")


def _check_share(field: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise invalid(f"/{field}", "is not between 0 and 1")
