"""What the edges ask the service and what it answers: one vocabulary for REST, gRPC and the command line.

The edges translate their wire format to these and back; the pipeline sees nothing else. Requests hold what the
caller sent, unchecked beyond its shape: limits, names and images are checked on the road, so that REST and gRPC
refuse the same things with the same words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Score


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A compressed image file, as bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Base64Image:
    """A compressed image file in base64 text, decoded on the road and not on an event loop."""

    text: str


@dataclass(frozen=True, slots=True)
class RawImage:
    """RGB uint8, row by row: `height * width * 3` bytes."""

    data: bytes
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class UrlImage:
    """An image to be fetched by the service."""

    url: str


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """A source that the edge already knows to be wrong: a part that is not there, say."""

    error: PlumblineError


ImageSource: TypeAlias = EncodedImage | Base64Image | RawImage | UrlImage | BrokenImage


@dataclass(frozen=True, slots=True)
class Item:
    """One image, one text, or both."""

    id: str
    image: str | ImageSource | None
    """A key of the request's images, a source of its own, or nothing."""
    text: str | None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score items in one batch."""

    items: Sequence[Item]
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    scorers: Sequence[str] | None = None
    """None: every loaded scorer that an item allows."""
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition of a filter; both bounds are inclusive, at least one is set."""

    scorer: str
    min: float | None = None
    max: float | None = None
    min_words: int | None = None
    """Fewest words of a text that the scorer's value is trusted for; one with fewer is rejected."""


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """Accept or reject items by thresholds that must all hold."""

    policy: Sequence[Threshold]
    items: Sequence[Item]
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    explain: bool = False
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Order N images for one text, or N texts for one image."""

    images: Sequence[ImageSource]
    texts: Sequence[str]
    scorer: str | None = None
    """None: the first loaded scorer that takes an image and a text."""
    top_k: int | None = None
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Embed images or texts, one of the two."""

    images: Sequence[ImageSource] = ()
    texts: Sequence[str] = ()
    scorer: str | None = None
    """Whose encoder to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a request's time went, milliseconds of wall time."""

    decode: float
    """Images were decoded and fitted: the sum over all, on however many threads."""
    queue: float
    """The longest wait for an encoder's batch, or for encodings that another request was having made already."""
    compute: float
    """The longest of the encoders' batches."""
    total: float


ScoreOrError: TypeAlias = Score | PlumblineError


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Scores by scorer; one that failed for this item has an error in its place."""

    id: str
    scores: Mapping[str, ScoreOrError]


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Nothing about this item could be scored."""

    id: str
    error: PlumblineError


ItemResult: TypeAlias = ItemScores | ItemFailure


@dataclass(frozen=True, slots=True)
class ScoreReply:
    """Results in request order."""

    results: Sequence[ItemResult]
    timing: Timing


@dataclass(frozen=True, slots=True)
class ItemVerdict:
    """Whether the item passed; `failed` names the scorers whose condition did not hold."""

    id: str
    verdict: Literal["accept", "reject"]
    failed: Sequence[str]
    scores: Mapping[str, ScoreOrError]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a scorer failed, by scorer, where that is not its value."""


@dataclass(frozen=True, slots=True)
class FilterReply:
    """Verdicts in request order; an item that could not be judged is a failure, never an accept."""

    results: Sequence[ItemVerdict | ItemFailure]
    timing: Timing


@dataclass(frozen=True, slots=True)
class Ranked:
    """One place of a ranking: which image or text, and its value."""

    index: int
    value: float
    truncated: bool = False
    """Whether the scorer did not read the end of the text."""


@dataclass(frozen=True, slots=True)
class RankReply:
    """Best first, ties by index; `errors` are those that could not be scored, by index."""

    scorer: str
    ranking: Sequence[Ranked]
    errors: Mapping[int, PlumblineError]
    timing: Timing


@dataclass(frozen=True, slots=True)
class EmbedReply:
    """Unit-norm vectors in request order; an input that failed has an error in its place."""

    encoder: str
    dim: int
    vectors: Sequence[NDArray[np.float32] | PlumblineError]
    timing: Timing
    truncated: Sequence[int] = ()
    """Which texts have an end that the encoder did not read, by index."""


@dataclass(frozen=True, slots=True)
class ScorerEntry:
    """One line of `GET /v1/scorers`."""

    id: str
    summary: str
    low: float | None
    high: float | None
    higher_is_better: bool
    needs_text: bool
    encoders: Sequence[str]
    precision: str
    backend: str
    paper: str
    licence: str
    """Of the weights behind it, each once."""
    conventions: Mapping[str, str]
    """How the value is made, as configured, by setting."""
    context_length: int | None
    """Tokens that a text is cut to; None where no text is cut."""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One line of `GET /v1/models`."""

    key: str
    kind: str
    arch: str
    source: str
    licence: str
    sha256: str
    dim: int
    backend: str
    precision: str
    device: str
    notes: Mapping[str, str]


Reply: TypeAlias = ScoreReply | FilterReply | RankReply | EmbedReply


def errors_of(reply: Reply) -> Iterator[tuple[str, PlumblineError]]:
    """What failed in an answer: the item, by id or index, with the scorer where it is one of several, and why."""
    match reply:
        case RankReply(errors=errors):
            yield from ((f"index {index}", error) for index, error in errors.items())
        case EmbedReply(vectors=vectors):
            yield from ((f"index {i}", each) for i, each in enumerate(vectors) if isinstance(each, PlumblineError))
        case _:
            for result in reply.results:
                if isinstance(result, ItemFailure):
                    yield f"item {result.id!r}", result.error
                else:
                    found = result.scores.items()
                    yield from ((f"item {result.id!r} {s}", e) for s, e in found if isinstance(e, PlumblineError))
