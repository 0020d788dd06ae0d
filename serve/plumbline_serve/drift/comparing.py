"""What is said of a window beside its reference: how far apart they are, and how grave that is."""

from collections.abc import Mapping
from typing import Final

from plumbline_models.decisions.drift import (
    E_LIMIT,
    LEAST_NUMBERS,
    composite,
    mean_shift,
    severity,
    shift,
)
from plumbline_serve.drift.references import Bins, Reference
from plumbline_serve.drift.windows import Counts, Window, entropies, spread
from plumbline_serve.messages.drift import DriftEntry, DriftSignal, StatisticShift

P_LIMIT: Final = 1e-3
"""Chance takes windows of one law as far apart in 1 of 1,000 looks."""
LEAST_PSI: Final = 0.01
"""What is nearer is a trifle, however sure it is."""
LEAST_ENTROPY: Final = 0.01
"""The same of mean entropies."""
WEIGHTS: Final[Mapping[DriftSignal, float]] = {"score": 0.4, "images": 0.3, "e_value": 0.2, "uncertainty": 0.1}
"""Of each signal: uncertainty is made of the scores, and weighs little beside them."""


def compare(reference: Reference, window: Window, e_value: float) -> DriftEntry:
    """Hold a window against its reference.

    Args:
        reference: Of the scorer.
        window: All that is counted of it now.
        e_value: What the windows before have come to.
    """
    found = _shift(reference.scores, window.scores)
    images = {
        name: each
        for name, bins in reference.images.items()
        if (each := _shift(bins, window.images.get(name, Counts()))) is not None
    }
    known: dict[DriftSignal, bool] = {"e_value": e_value >= E_LIMIT}
    if found is not None:
        known["score"] = _fires(found, P_LIMIT)
    if images:
        known["images"] = any(_fires(each, P_LIMIT / len(images)) for each in images.values())
    now = entropies(window.scores) if reference.entropy is not None and found is not None else None
    if now is not None and reference.entropy is not None:
        apart = abs(now[0] / now[2] - reference.entropy[0] / reference.entropy[2])
        known["uncertainty"] = apart >= LEAST_ENTROPY and mean_shift(reference.entropy, now) < P_LIMIT
    weights: dict[str, float] = {name: weight for name, weight in WEIGHTS.items() if name in known}
    triggered: list[DriftSignal] = [name for name in WEIGHTS if known.get(name, False)]
    return DriftEntry(
        psi=None if found is None else found.psi,
        p_value=None if found is None else found.p_value,
        n=reference.scores.num,
        m=window.num_scores,
        entropy=None if now is None else now[0] / now[2],
        e_value=e_value,
        severity=severity(composite(triggered, weights)),
        triggered=triggered,
        images=images,
    )


def p_value(reference: Reference, window: Window) -> float | None:
    """How often chance takes a window as far from its reference; None where it says nothing.

    Args:
        reference: Of the scorer.
        window: Some of its scores.
    """
    found = _shift(reference.scores, window.scores)
    return None if found is None else found.p_value


def _shift(bins: Bins, counts: Counts) -> StatisticShift | None:
    if counts.total() < LEAST_NUMBERS:
        return None
    found = shift(bins.counts, spread(counts, bins.edges))
    return StatisticShift(found.psi, found.p_value)


def _fires(found: StatisticShift, limit: float) -> bool:
    return found.p_value < limit and found.psi >= LEAST_PSI
