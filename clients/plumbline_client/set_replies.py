"""The service's replies about sets; as `replies`, of which these are a part."""

from collections.abc import Mapping

from pydantic import Field

from plumbline_client.problems import ReplyModel
from plumbline_client.replies import BoundTo, IndexedProblem, TimedReply


class Sce(ReplyModel):
    """Both parts of a set's diversity."""

    image: float
    """The generator's, at least 1."""
    text: float
    """The prompts'."""
    corrected: float | None = None
    """`image` with what fitting the texts took given back; None where that was everything."""
    image_share: float
    """Of the images' spread, what texts do not explain; 0 to 1."""
    samples_per_direction: float
    """Members for each direction of the texts."""
    reliable: bool
    """Whether these are enough."""


class DiversityReply(TimedReply):
    """How many different images a set holds; whatever failed is left out of all values."""

    encoder: str | None = None
    """What embedded; for embeddings, what the caller calls it."""
    n: int
    """Members that the values are of."""
    vendi: Mapping[str, float]
    """Effective number of different members, by order, 1 to `n`; not to be compared across encoders."""
    vendi_centred: Mapping[str, float]
    """The same of the spread about the mean."""
    mean_pairwise: float | None = None
    """Mean cosine of all pairs; None for a single member."""
    duplicates: tuple[tuple[int, ...], ...] = ()
    """Groups of equal and near-duplicate members, by index."""
    identical: tuple[tuple[int, ...], ...] = ()
    """Groups of members of equal content alone."""
    sce: Sce | None = None
    """What of the diversity is the generator's; None without texts."""
    errors: tuple[IndexedProblem, ...] = ()
    """Members that could not be used."""
    truncated: tuple[int, ...] = ()
    """Texts whose end the encoder did not read, by index."""


class GroupShare(ReplyModel):
    """One group of an audit."""

    name: str
    count: int
    share: float
    """Of the members that have a label."""
    skew: float | None = None
    """ln(share / share wanted); None for a group that is absent."""


class Spread(ReplyModel):
    """How evenly groups are spread."""

    parity_gap: float
    """Of the shares of the pair, or of the largest and the smallest group."""
    bias_amplification: float
    """0 where all groups are even."""
    entropy_bits: float
    entropy: float
    """1 where all groups are even."""
    kl_nats: float
    """0 where all groups are even."""
    composite: float
    """By T2I-BiasBench's program; lower is more even."""
    composite_documented: float | None = None
    """By its README."""


class Guess(ReplyModel):
    """What one member is taken for."""

    label: str | None = None
    """None: no group was far enough ahead."""
    confidence: float
    """The probability of the best group among those declared; not that it is right."""


class ElementRates(ReplyModel):
    """What of the elements a set shows; None where there were none of the kind."""

    explicit_missing: float | None = None
    """Mean share of the prompt's elements that an image does not show."""
    implied_missing: float | None = None
    """The same of what it implies."""
    hallucination: float | None = None
    """Share of images with something forbidden."""
    cultural_accuracy: float | None = None
    """Share of images with at least one marker."""
    n: int
    """Images that could be asked about."""


class AuditReply(TimedReply):
    """How evenly a set is spread over groups."""

    caution: str = ""
    """What these values do not say; to be shown with them."""
    encoder: str | None = None
    """What guessed labels."""
    n: int
    """Members with a label: what shares are of."""
    num_unknown: int = 0
    """Members without one."""
    groups: tuple[GroupShare, ...]
    absent: tuple[str, ...] = ()
    """Groups without a member."""
    max_skew: float | None = None
    """The largest of the skews."""
    spread: Spread | None = None
    """None where nobody has a label."""
    intervals: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    """95 % bootstrap intervals, by name: of chance alone."""
    elements: ElementRates | None = None
    """None where none were asked about."""
    guesses: tuple[Guess, ...] = ()
    """Of each member in order, those in `errors` left out; none for labels of the caller's."""
    errors: tuple[IndexedProblem, ...] = ()
    """Members that could not be used."""


class ReferenceSetEntry(ReplyModel):
    """A set that is kept."""

    name: str
    encoder: str
    """What embedded it; for embeddings, what the caller called it."""
    n: int
    """Members."""
    dim: int
    """Numbers of each encoding."""
    bound_to: BoundTo
    """Sets of others are refused; `weights` is empty where the encoder was not loaded there."""
    created: str = ""
    """RFC 3339, in UTC."""


class ReferenceSetsReply(ReplyModel):
    """The sets that are kept."""

    sets: tuple[ReferenceSetEntry, ...] = ()


class DistanceReply(TimedReply):
    """Distances between two sets' encodings; none of them is FID."""

    encoder: str | None = None
    """What embedded both; for embeddings, what the caller calls it."""
    n_a: int
    """Members of `a` that the values are of."""
    n_b: int
    """Members of `b`, or of the reference, that the values are of."""
    frechet: float
    """Frechet distance; the fewer members, the larger it is, also where nothing differs."""
    frechet_floor: float
    """The same between two random parts, of these sizes, of both sets together: what is no difference."""
    mmd_polynomial: float
    """Squared maximum mean discrepancy by KID's cubic kernel; may be below 0."""
    mmd_rbf: float
    """The same by a Gaussian kernel."""
    rbf_sigma: float
    """Width of that kernel."""
    errors_a: tuple[IndexedProblem, ...] = ()
    """Members of `a` that could not be used."""
    errors_b: tuple[IndexedProblem, ...] = ()
    """Members of `b` that could not be used."""
