"""Requests and replies about sets of images; as `requests` and `replies` have those about scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.sets.distances import DEFAULT_SIGMA
from plumbline_models.sets.measures import NEAR_DUPLICATE, ORDERS, Diversity
from plumbline_serve.messages import replies
from plumbline_serve.messages.audits import AuditReply, AuditRequest
from plumbline_serve.messages.decisions import BoundTo
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.replies import Reply, Timing
from plumbline_serve.messages.requests import Request
from plumbline_serve.scheduling.request_context import Priority


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
    deterministic: bool = False

    @property
    def num_items(self) -> int:
        """What it counts as."""
        return self.num_members + len(self.texts or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityReply(Diversity):
    """How many different images there are; whatever failed is left out of all values."""

    encoder: str | None
    """What embedded, by its key in `GET /v1/models`; for embeddings, what the caller calls it."""
    timing_ms: Timing
    errors: Mapping[int, PlumblineError] = field(default_factory=dict)
    """What could not be used, by index; absent where there is none."""
    truncated: Sequence[int] = ()
    """Texts whose end the encoder did not read, by index, from 0; absent where there is none."""


@dataclass(frozen=True, slots=True)
class DistanceRequest:
    """How far a set is from another one, or from one that is kept."""

    a: EncodingSet
    b: EncodingSet | None = None
    reference: str | None = None
    """In place of `b`: the name of a set that is kept."""
    rbf_sigma: float = DEFAULT_SIGMA
    """Width of the Gaussian kernel, in lengths between unit vectors."""
    scorer: str | None = None
    """Whose encoder to use; None: that of the reference, else the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False

    @property
    def num_items(self) -> int:
        """What it counts as."""
        return self.a.num_members + (self.b.num_members if self.b is not None else 0)


@dataclass(frozen=True, slots=True)
class DistanceReply:
    """Distances between the sets' encodings. None of them is FID, which is of another network."""

    encoder: str | None
    """What embedded both, by its key in `GET /v1/models`; for embeddings, what the caller calls it."""
    n_a: int
    """Members of `a` that the values are of."""
    n_b: int
    """Members of `b`, or of the reference, that the values are of."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSetRequest(EncodingSet):
    """Keep a set under a name, for others to be compared with."""

    name: str
    scorer: str | None = None
    """Whose encoder to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"
    deterministic: bool = False

    @property
    def num_items(self) -> int:
        """What it counts as."""
        return self.num_members


@dataclass(frozen=True, slots=True)
class ReferenceSetEntry:
    """A set that is kept."""

    name: str
    encoder: str
    """What embedded it, by its key in `GET /v1/models`; for embeddings, what the caller called it."""
    n: int
    """Members."""
    dim: int
    """Numbers of each encoding."""
    bound_to: BoundTo
    """Sets of others are refused; `weights` is empty where the encoder was not loaded here."""
    created: str
    """RFC 3339, in UTC."""


SetRequest: TypeAlias = DiversityRequest | DistanceRequest | AuditRequest
SetReply: TypeAlias = DiversityReply | DistanceReply | AuditReply
AnyRequest: TypeAlias = Request | SetRequest | ReferenceSetRequest
AnyReply: TypeAlias = Reply | SetReply | ReferenceSetEntry


def errors_of(reply: AnyReply) -> Iterator[tuple[str, PlumblineError]]:
    """What failed in a reply, as `replies.errors_of` says it."""
    match reply:
        case DiversityReply(errors=errors) | AuditReply(errors=errors):
            yield from ((f"index {index}", error) for index, error in errors.items())
        case DistanceReply(errors_a=errors_a, errors_b=errors_b):
            for name, errors in (("a", errors_a), ("b", errors_b)):
                yield from ((f"{name} index {index}", error) for index, error in errors.items())
        case ReferenceSetEntry():
            return
        case _:
            yield from replies.errors_of(reply)
