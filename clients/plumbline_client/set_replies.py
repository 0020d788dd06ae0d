"""The service's replies about sets; as `replies`, of which these are a part."""

from collections.abc import Mapping

from plumbline_client.problems import ReplyModel
from plumbline_client.replies import IndexedProblem, Timing


class _SetReply(ReplyModel):
    request_id: str = ""
    timing_ms: Timing = Timing()


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


class DiversityReply(_SetReply):
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


class DistanceReply(_SetReply):
    """Distances between two sets' encodings; none of them is FID."""

    encoder: str | None = None
    """What embedded both; for embeddings, what the caller calls it."""
    n_a: int
    """Members of `a` that the values are of."""
    n_b: int
    """Members of `b` that the values are of."""
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
