"""Several scores as one, as callers say it; `requests.combining` has the arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Term:
    """One score of a combination."""

    scorer: str
    weight: float = 1.0
    min: float | None = None
    """The value that counts as 0, as do those below; given with `max`. Without them the value counts as it is."""
    max: float | None = None
    """The value that counts as 1, as do those above. Where lower is better the two change places."""


@dataclass(frozen=True, slots=True)
class Combination:
    """Several scores as one, higher is better; an error where one of them is."""

    method: Literal["sum", "harmonic"]
    """`sum` of weight times value, or weighted `harmonic` mean, which one low value sinks: each term needs bounds."""
    terms: Sequence[Term]
