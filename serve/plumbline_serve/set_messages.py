"""Requests and replies about sets of images; as `messages`, of which these are a part."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.sets.audit import Spread
from plumbline_models.sets.distances import DEFAULT_SIGMA
from plumbline_models.sets.sce import Sce
from plumbline_models.sets.zero_shot import MARGIN, Guess
from plumbline_serve import messages
from plumbline_serve.messages import ImageSource, Timing
from plumbline_serve.request_context import Priority

NEAR_DUPLICATE: Final = 0.98
"""Cosine from which on two images are near-duplicates, where the caller does not say: encoders differ in it."""
ORDERS: Final = (1.0, 2.0, math.inf)
"""Of the Vendi score, where the caller does not say."""


@dataclass(frozen=True, slots=True)
class EncodingSet:
    """A set in one of three forms; the others are empty."""

    images: Sequence[ImageSource] = ()
    embeddings: Sequence[Sequence[float] | str] = ()
    """Numbers, or base64 of little-endian float32, as `/v1/embed` answers; of any length."""
    hashes: Sequence[str] = ()
    """SHA-256, in hex, of image files that this process has encoded before and still keeps."""
    encoder: str | None = None
    """What made `embeddings`, in the caller's words: sets of different encoders are not compared."""

    @property
    def num_members(self) -> int:
        """How many there are, of all three forms."""
        return len(self.images) + len(self.embeddings) + len(self.hashes)


@dataclass(frozen=True, slots=True)
class DiversityRequest(EncodingSet):
    """How many different images a set holds, and which are the same."""

    texts: Sequence[str] | None = None
    """The prompt of each member, for SCE."""
    weights: Sequence[float] | None = None
    """How much each member counts in the Vendi score; None: all alike."""
    orders: Sequence[float] = ORDERS
    near_duplicate: float | None = NEAR_DUPLICATE
    """Least cosine of near-duplicates; None: only equal ones are found."""
    scorer: str | None = None
    """Whose encoders to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"

    @property
    def num_items(self) -> int:
        """What it counts as."""
        return self.num_members + len(self.texts or ())


@dataclass(frozen=True, slots=True)
class DiversityReply:
    """How many different images there are; whatever failed is left out of all values."""

    encoder: str | None
    """What embedded, by its key in `GET /v1/models`; for embeddings, what the caller calls it."""
    n: int
    """Members that the values are of."""
    vendi: Mapping[str, float]
    """Effective number of different members, by order: 1 to `n`. Not to be compared across encoders."""
    vendi_centred: Mapping[str, float]
    """The same of the spread about the mean, which does not depend on how narrow the encoder's cone is."""
    mean_pairwise: float | None
    """Mean cosine of all pairs, -1 to 1; null for a single member."""
    duplicates: Sequence[Sequence[int]]
    """Groups of equal and near-duplicate members, by index, from 0; groups that share a member are one."""
    identical: Sequence[Sequence[int]]
    """Groups of members of equal content alone: the same file, or the same embedding."""
    sce: Sce | None
    """What of the diversity is the generator's; null without `texts`."""
    timing_ms: Timing
    errors: Mapping[int, PlumblineError] = field(default_factory=dict)
    """What could not be used, by index; absent where there is none."""
    truncated: Sequence[int] = ()
    """Texts whose end the encoder did not read, by index, from 0; absent where there is none."""


@dataclass(frozen=True, slots=True)
class DistanceRequest:
    """How far two sets are from each other."""

    a: EncodingSet
    b: EncodingSet
    rbf_sigma: float = DEFAULT_SIGMA
    """Width of the Gaussian kernel, in lengths between unit vectors."""
    scorer: str | None = None
    """Whose encoder to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"

    @property
    def num_items(self) -> int:
        """What it counts as."""
        return self.a.num_members + self.b.num_members


@dataclass(frozen=True, slots=True)
class DistanceReply:
    """Distances between the sets' encodings. None of them is FID, which is of another network."""

    encoder: str | None
    """What embedded both, by its key in `GET /v1/models`; for embeddings, what the caller calls it."""
    n_a: int
    """Members of `a` that the values are of."""
    n_b: int
    """Members of `b` that the values are of."""
    frechet: float
    """Frechet distance of the encodings, at least 0; the fewer members, the larger it is, also where nothing differs.
    """
    frechet_floor: float
    """The same between two random parts, of these sizes, of both sets together: what is no difference."""
    mmd_polynomial: float
    """Squared maximum mean discrepancy by KID's cubic kernel; unbiased, so it may be below 0."""
    mmd_rbf: float
    """The same by a Gaussian kernel."""
    rbf_sigma: float
    """Width of that kernel."""
    timing_ms: Timing
    errors_a: Mapping[int, PlumblineError] = field(default_factory=dict)
    """What of `a` could not be used, by index; absent where there is none."""
    errors_b: Mapping[int, PlumblineError] = field(default_factory=dict)
    """The same of `b`."""


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


SetRequest: TypeAlias = DiversityRequest | DistanceRequest | AuditRequest
SetReply: TypeAlias = DiversityReply | DistanceReply | AuditReply
AnyRequest: TypeAlias = messages.Request | SetRequest
AnyReply: TypeAlias = messages.Reply | SetReply


def errors_of(reply: AnyReply) -> Iterator[tuple[str, PlumblineError]]:
    """What failed in a reply, as `messages.errors_of` says it."""
    match reply:
        case DiversityReply(errors=errors) | AuditReply(errors=errors):
            yield from ((f"index {index}", error) for index, error in errors.items())
        case DistanceReply(errors_a=errors_a, errors_b=errors_b):
            for name, errors in (("a", errors_a), ("b", errors_b)):
                yield from ((f"{name} index {index}", error) for index, error in errors.items())
        case _:
            yield from messages.errors_of(reply)
