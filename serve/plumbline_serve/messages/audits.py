"""Requests for and replies of audits of a set; as `requests` and `replies` have those about scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from plumbline_models.core.errors import PlumblineError
from plumbline_models.sets.audit import Spread
from plumbline_models.sets.zero_shot import MARGIN, Guess
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.replies import Timing
from plumbline_serve.scheduling.request_context import Priority


@dataclass(frozen=True, slots=True)
class Elements:
    """What each image is asked about, `Is there a …?`; none where it is empty."""

    explicit: Sequence[str] = ()
    """Named by the prompt."""
    implied: Sequence[str] = ()
    """Not named, but part of what the prompt means."""
    forbidden: Sequence[str] = ()
    """What no image should show."""
    markers: Sequence[str] = ()
    """Of the culture that is meant; one is enough."""

    @property
    def all(self) -> list[str]:
        """All of them, in order."""
        return [*self.explicit, *self.implied, *self.forbidden, *self.markers]


@dataclass(frozen=True, slots=True)
class AuditRequest(EncodingSet):
    """How evenly a set is spread over groups, and which elements it shows."""

    groups: Sequence[str] = ()
    """All that there may be, those that are absent too."""
    labels: Sequence[str | None] | None = None
    """The group of each member, null where nobody can tell; None: the nearest of `prompts` is taken."""
    prompts: Sequence[str] | None = None
    """A text for each group."""
    margin: float = MARGIN
    """By how much the best group's probability has to be above the second, or there is no label."""
    pair: Sequence[str] | None = None
    """The two groups whose gap is meant; None: the largest and the smallest."""
    wanted: Sequence[float] | None = None
    """The share that each group should have, for the skews; None: all even."""
    association: float | None = None
    """Share of the stereotypical, 0 to 1, for the composite."""
    elements: Elements | None = None
    """What is asked of `images`, by the scorer `questions`."""
    compat: Literal["official"] | None = None
    """`official`: groups are those that were seen, as T2I-BiasBench's program has it."""
    scorer: str | None = None
    """Whose encoders to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False

    @property
    def num_items(self) -> int:
        """What it counts as."""
        asked = len(self.images) * len(self.elements.all) if self.elements is not None else 0
        return max(self.num_members, len(self.labels or ())) + len(self.prompts or ()) + asked


@dataclass(frozen=True, slots=True)
class GroupShare:
    """One group of an audit."""

    name: str
    count: int
    share: float
    """Of the members that have a label, 0 to 1."""
    skew: float | None
    """ln(share / share wanted); null for a group that is absent, whose skew is minus infinity."""


@dataclass(frozen=True, slots=True)
class ElementRates:
    """What of the elements a set shows; null where there were none of the kind."""

    explicit_missing: float | None
    """Mean share of the prompt's elements that an image does not show."""
    implied_missing: float | None
    """The same of what it implies."""
    hallucination: float | None
    """Share of images with something forbidden."""
    cultural_accuracy: float | None
    """Share of images with at least one marker."""
    n: int
    """Images that could be asked about."""


@dataclass(frozen=True, slots=True)
class AuditReply:
    """How evenly a set is spread over groups."""

    caution: str
    """What these values do not say; to be shown with them."""
    encoder: str | None
    """What guessed labels, by its key in `GET /v1/models`; for embeddings, what the caller calls it; null for labels of
    the caller's."""
    n: int
    """Members with a label: what shares are of."""
    num_unknown: int
    """Members without one."""
    groups: Sequence[GroupShare]
    """As declared; with `compat` those that were seen, the largest first."""
    absent: Sequence[str]
    """Groups without a member."""
    max_skew: float | None
    """The largest of the skews; null where nobody has a label, as the next."""
    spread: Spread | None
    """Gap, entropy, divergence, amplification and composite."""
    intervals: Mapping[str, Sequence[float]]
    """95 % bootstrap intervals of these, by name: of chance alone, not of labels that are wrong."""
    elements: ElementRates | None
    """Null where none were asked about."""
    timing_ms: Timing
    guesses: Sequence[Guess] = ()
    """Of each member in order, those in `errors` left out; absent for labels of the caller's."""
    errors: Mapping[int, PlumblineError] = field(default_factory=dict)
    """What could not be used, by index; absent where there is none."""
