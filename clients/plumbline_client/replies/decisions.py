"""Calibrations, and what all decisions that a service keeps have."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from plumbline_client.items import Combination
from plumbline_client.problems import ReplyModel


class BoundTo(ReplyModel):
    """What a decision was made with: it is refused with anything else."""

    weights: str
    """SHA-256 of the weights, in hexadecimal."""
    conventions: Mapping[str, str] = Field(default_factory=dict)
    """How the value is made, by setting."""


class GroupThreshold(ReplyModel):
    """Where to part good from bad in one group."""

    threshold: float | None = None
    """What is at it or beyond, towards the better, is kept; None: too few labels."""
    k: int
    """Which of the scores it is, from the better end for `keep_good`, from the worse end for `reject_bad`."""
    num_used: int
    """Scores that count: those of good ones, or of bad ones."""
    coverage: float | None = None
    """Share of good ones that are kept, or of bad ones that are rejected, on average over calibrations."""
    coverage_p05: float | None = None
    """What all but 5 in 100 calibrations reach."""
    detail: str = ""
    """How many labels are needed; only where there is no threshold."""


class Calibration(GroupThreshold):
    """A threshold with its promise, by the name under which a filter's condition uses it."""

    name: str
    scorer: str
    """Or the name of a combination."""
    alpha: float
    direction: Literal["keep_good", "reject_bad"]
    confidence: float | None = None
    """None where the promise holds on average."""
    groups: Mapping[str, GroupThreshold] = Field(default_factory=dict)
    """By group."""
    combine: Mapping[str, Combination] = Field(default_factory=dict)
    """The combination by its name, as `filter` takes it; empty where it is of a scorer."""
    bound_to: BoundTo
    created: str = ""
    """RFC 3339, in UTC."""


class CalibrationsReply(ReplyModel):
    """The calibrations that are kept."""

    calibrations: tuple[Calibration, ...]


class Deleted(ReplyModel):
    """That something is kept no more."""

    status: Literal["deleted"]
