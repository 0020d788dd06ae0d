"""The requests and replies about decisions that are kept, as `requests` and `replies` have those about scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plumbline_models.decisions.conformal import Direction
from plumbline_serve.messages.combination import Combination
from plumbline_serve.scheduling.request_context import Priority

CLASSIFIER_PREFIX: Final = "classifier:"
"""Before the name of a classifier, where scorers are named."""
MADE: Final = "made"
"""The convention of a classifier that says when it was made: another of its name is another scorer."""


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """Find a threshold from scores whose right answer is known, and keep it under a name."""

    name: str
    scorer: str | None
    """Whose scores they are; None: those of the combination."""
    alpha: float
    """Share of good ones that may be lost, or of bad ones that may pass."""
    direction: Direction
    scores: Sequence[float]
    labels: Sequence[bool]
    """Whether each is of a good one."""
    groups: Sequence[str] | None = None
    """The group of each, such as the class of its prompt: every group gets a threshold of its own as well."""
    confidence: float | None = None
    """None: the promise holds on average over calibrations; else for such a share of them."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """One, by its name, in place of a scorer."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class BoundTo:
    """What a decision was made with: it is refused with anything else."""

    weights: str
    """SHA-256 of the weights, in hexadecimal."""
    conventions: Mapping[str, str]
    """How the value is made, by setting."""


@dataclass(frozen=True, slots=True)
class GroupThreshold:
    """Where to part good from bad in one group."""

    threshold: float | None
    """What is at it or beyond, towards the better, is kept; null: too few labels."""
    k: int
    """Which of the scores it is, from the better end for `keep_good`, from the worse end for `reject_bad`."""
    num_used: int
    """Scores that count: those of good ones, or of bad ones."""
    coverage: float | None
    """Share of good ones that are kept, or of bad ones that are rejected, on average over calibrations."""
    coverage_p05: float | None
    """What all but 5 in 100 calibrations reach."""
    detail: str = ""
    """How many labels are needed; only where there is no threshold."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold with its promise, by the name under which a filter's condition uses it."""

    name: str
    scorer: str
    """Or the name of a combination."""
    alpha: float
    direction: Direction
    threshold: float | None
    """What is at it or beyond, towards the better, is kept; null: too few labels."""
    k: int
    """Which of the scores it is, from the better end for `keep_good`, from the worse end for `reject_bad`."""
    num_used: int
    """Scores that count: those of good ones, or of bad ones."""
    coverage: float | None
    """Share of good ones that are kept, or of bad ones that are rejected, on average over calibrations."""
    coverage_p05: float | None
    """What all but 5 in 100 calibrations reach."""
    bound_to: BoundTo
    created: str
    """RFC 3339, in UTC."""
    confidence: float | None = None
    """As asked for; absent where the promise holds on average."""
    groups: Mapping[str, GroupThreshold] = field(default_factory=dict)
    """By group; absent where there are none."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """The combination by its name, as a filter's `combine` takes it; absent where it is of a scorer."""
    detail: str = ""
    """How many labels are needed; only where there is no threshold."""


@dataclass(frozen=True, slots=True)
class ClassifierEntry:
    """One classifier."""

    name: str
    """It scores as `classifier:NAME`."""
    scorer: str
    """Whose encoders it reads."""
    classes: Sequence[str]
    """The scorer's value is the probability of the first."""
    num_images: int
    """That it was made from."""
    mixing: float
    """Weight of the discriminant beside the prompts; 0: the prompts alone answer as well."""
    accuracy_cv: float
    """Share of right answers on images that were left out, by folds."""
    accuracy_zero_shot: float
    """The same of the prompts alone."""
    bound_to: BoundTo
    created: str
    """RFC 3339, in UTC."""
