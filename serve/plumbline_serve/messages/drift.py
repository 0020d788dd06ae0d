"""What is said of drift, as `replies` has what is said of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.decisions.drift import Severity
from plumbline_serve.messages.decisions import BoundTo
from plumbline_serve.scheduling.request_context import Priority

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


@dataclass(frozen=True, slots=True)
class ReferenceRequest:
    """Keep the window that a scorer's scores are compared with from now on, in the place of the one before."""

    scorer: str
    values: Sequence[float] | None = None
    """Scores of a time that was good, at least 100; or `from_live`."""
    from_live: bool = False
    """Whether it is what is counted now, of all replicas, images included."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceEntry:
    """What the scores of one scorer are compared with."""

    scorer: str
    n: int
    """Scores in it; no score is kept, but how many lay where."""
    edges: Sequence[float]
    """Between which they were counted, a tenth of them in each part."""
    counts: Sequence[int]
    """One more than there are edges."""
    images: Sequence[str]
    """Statistics of images that it has as well; none where only values were given."""
    bound_to: BoundTo
    created: str
    """RFC 3339, in UTC."""


@dataclass(frozen=True, slots=True)
class DriftReply:
    """Every scorer that has a reference."""

    scorers: Mapping[str, DriftEntry]
    """By scorer; those whose reference fits what is loaded."""
    errors: Mapping[str, PlumblineError]
    """By scorer, why its reference cannot be used; absent where there is none."""
