"""What the store keeps of drift: how many scores lay where in a slice of time, and e-values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

SliceKey: TypeAlias = tuple[str, int, int]
"""Digest of the binding that the scores come from, length of windows in milliseconds, number of the slice."""


@dataclass(frozen=True, slots=True)
class Bet:
    """An e-value, and up to when scores have gone into it, in seconds since the epoch."""

    e_value: float = 1.0
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CountRow:
    """What one process counted of one scorer in one slice."""

    key: SliceKey
    expires_ms: int
    """Since the epoch; nobody asks for it any more."""
    document: Mapping[str, Any]
    """JSON-ready."""
