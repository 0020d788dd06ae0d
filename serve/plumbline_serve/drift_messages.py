"""What is said of drift, as `messages` has the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from plumbline_models.decisions.drift import Severity

DriftSignal: TypeAlias = Literal["score", "images", "e_value", "uncertainty"]


@dataclass(frozen=True, slots=True)
class StatisticShift:
    """How far a statistic of images is from what it was."""

    psi: float
    """Population stability index over quantiles of the reference."""
    p_value: float
    """How often windows of one law are as far apart."""


@dataclass(frozen=True, slots=True)
class DriftEntry:
    """One scorer beside its reference."""

    psi: float | None
    """Population stability index over quantiles of the reference; null while fewer than 100 scores were given."""
    p_value: float | None
    """How often windows of one law are as far apart; fires below 0.001."""
    n: int
    """Scores in the reference."""
    m: int
    """Scores in the window that ends now, of all replicas."""
    entropy: float | None
    """Mean entropy of the scores in bits; null where they are no probabilities."""
    e_value: float
    """A bet against no drift, slice by slice; fires from 20 on."""
    severity: Severity
    """Of all signals together."""
    triggered: Sequence[DriftSignal]
    """Those that fired."""
    images: Mapping[str, StatisticShift]
    """Of the images, by statistic: `brightness`, `edges`, `entropy`; empty where the reference has none."""
