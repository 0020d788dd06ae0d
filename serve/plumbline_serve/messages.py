"""The service's requests and replies, each defined once, for REST, gRPC and the command line.

Requests hold what the caller sent, unchecked beyond its shape: limits, names and images are checked on the request
path, so that all wires refuse the same with the same words.

Replies are written field by field: a field goes out under its name, and where it has a default, only if it differs from
it (REST). REST's schema takes types and descriptions from here; protobuf and client are held against it by a test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Score
from plumbline_models.core.questions import Question
from plumbline_serve.decision_messages import Calibration, CalibrationRequest, ClassifierEntry
from plumbline_serve.drift_messages import ReferenceEntry, ReferenceRequest
from plumbline_serve.request_context import Priority


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A compressed image file, as bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Base64Image:
    """A compressed image file in base64 text, decoded on the request path and not on an event loop."""

    text: str


@dataclass(frozen=True, slots=True)
class RawImage:
    """RGB or RGBA uint8, row by row: `height * width * channels` bytes; alpha is straight, not multiplied in."""

    data: bytes
    height: int
    width: int
    channels: Literal[3, 4] = 3


@dataclass(frozen=True, slots=True)
class UrlImage:
    """An image to be fetched by the service."""

    url: str


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """A source that the edge already knows to be wrong: a part that is not there, say."""

    error: PlumblineError


ImageSource: TypeAlias = EncodedImage | Base64Image | RawImage | UrlImage | BrokenImage


Pool: TypeAlias = Literal["mean", "min", "clip4clip"]
"""Of the values of a video's frames: their mean, the worst of them, or the value of the frames' mean encoding."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image, one text, or both."""

    id: str
    image: str | ImageSource | None
    """A key of the request's images, a source of its own, or nothing."""
    text: str | None
    references: Sequence[str] = ()
    """Captions that the text is compared with, as `refclipscore` does; none where it is empty."""
    reference_image: str | ImageSource | None = None
    """What the image is compared with, as `image_similarity` does; named as `image` is."""
    phrases: Sequence[str] = ()
    """Parts of the text that are held against the image too, as `phrase_clipscore` does; none where it is empty."""
    questions: Sequence[Question] = ()
    """About the image, as `questions` asks them; none where it is empty."""
    frames: Sequence[str | ImageSource] = ()
    """Of a video, in place of the image; each named as `image` is."""
    pool: Pool = "mean"
    """How the values of frames become one."""
    group: str | None = None
    """The class that calibrations with groups have a threshold for; None: the threshold of all."""


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


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What guards look at."""

    views: bool = False
    """Whether each image is encoded in three views too, for `adversarial_suspect`."""
    explain: bool = False
    """Whether numbers and their lines come beside the flags."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score items in one batch."""

    items: Sequence[Item]
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    scorers: Sequence[str] | None = None
    """None: every loaded scorer that an item allows."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """By the name that each has among the scores; the scorers of its terms run as well."""
    guards: GuardOptions | None = None
    """None: guards do not look."""
    timeout_ms: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition of a filter: bounds, both inclusive, or a calibration in their place."""

    scorer: str
    """Or a combination of the request."""
    min: float | None = None
    max: float | None = None
    min_words: int | None = None
    """Fewest words of a text that the scorer's value is trusted for; one with fewer is rejected."""
    calibration: str | None = None
    """One of this scorer, by name, whose threshold must be met; without bounds."""


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """Accept or reject items by thresholds that must all hold."""

    policy: Sequence[Threshold]
    items: Sequence[Item]
    images: Mapping[str, ImageSource] = field(default_factory=dict)
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """By the name that a condition gives for its scorer."""
    explain: bool = False
    timeout_ms: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Order N images for one text, or N texts for one image."""

    images: Sequence[ImageSource]
    texts: Sequence[str]
    scorer: str | None = None
    """Or a combination; None: the request's only combination, else the first loaded scorer of an image and a text."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    """By the name that `scorer` may give."""
    top_k: int | None = None
    timeout_ms: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Embed images or texts, one of the two."""

    images: Sequence[ImageSource] = ()
    texts: Sequence[str] = ()
    scorer: str | None = None
    """Whose encoder to use; None: the first loaded scorer with a text encoder."""
    timeout_ms: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class SelectRequest:
    """Choose one of N images for a text, and say what the choice is certain to gain."""

    text: str
    images: Sequence[ImageSource]
    scorer: str | None = None
    """As for a ranking."""
    combine: Mapping[str, Combination] = field(default_factory=dict)
    correlation: float | None = None
    """Of the value with what people want, within prompts; None: nothing is certified."""
    correlation_interval: Sequence[float] | None = None
    """Its lower and upper end; the lower one is used."""
    temperature: float | None = None
    """None: the best. Else one is drawn by the softmax of value over temperature."""
    seed: int | None = None
    """Of the draw; None: every draw is another."""
    timeout_ms: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class ClassifierRequest:
    """Learn classes from a few images of each, and keep that as a scorer `classifier:NAME`."""

    name: str
    classes: Mapping[str, Sequence[ImageSource]]
    """Images by class, two or more of each; the scorer's value is the probability of the first."""
    prompts: Mapping[str, str]
    """What a caption of each class says."""
    scorer: str | None = None
    """Whose encoders; None: those of the first loaded scorer that has one of images and one of texts."""
    timeout_ms: float | None = None
    priority: Priority = "normal"


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of wall time that the request took in the service."""

    decode: float
    """Decoding and preprocessing of images: the sum over all, on however many threads."""
    queue: float
    """The longest wait for an encoder, or for encodings that another request was having made already."""
    compute: float
    """The longest time that an encoder took."""
    total: float


ScoreOrError: TypeAlias = Score | PlumblineError


@dataclass(frozen=True, slots=True)
class GuardFlags:
    """What guards say of an image: that it is suspect, never that it is safe. null: not computed."""

    fooling_suspect: bool | None
    """Whether it looks as if it was made to fit many texts, or as no real image does."""
    ood_score: float | None
    """Share of the operator's images that are more usual, in [0, 1]."""
    adversarial_suspect: bool | None
    """Whether its cosine with the text falls as that of a real image hardly does when it is blurred, resized or made a
    JPEG of; null without a text, or unless `views` was asked for."""
    policy: str | None
    """Which artefact says so; null: none is built for the encoder."""
    calibration_stale: bool = False
    """True where one of the item's scores drifts from its reference; else absent."""
    explained: Mapping[str, float] = field(default_factory=dict)
    """Numbers and the lines above which they are suspect; absent unless `explain` was asked for."""


@dataclass(frozen=True, slots=True)
class ItemScores:
    """An item that was scored; single scorers may have failed."""

    id: str
    scores: Mapping[str, ScoreOrError]
    """By scorer."""
    guards: GuardFlags | None = None
    """Absent unless the request asks for guards."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """An item that nothing could be said of."""

    id: str
    error: PlumblineError


ItemResult: TypeAlias = ItemScores | ItemFailure


@dataclass(frozen=True, slots=True)
class ScoreReply:
    """Results in the order of the items."""

    results: Sequence[ItemResult]
    timing_ms: Timing


@dataclass(frozen=True, slots=True)
class ItemVerdict:
    """An item that was judged."""

    id: str
    verdict: Literal["accept", "reject"]
    failed: Sequence[str]
    """Scorers whose condition did not hold."""
    scores: Mapping[str, ScoreOrError]
    """By scorer; those that ran."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """By scorer, why it failed where that is not its value: a text with fewer than `min_words` words."""


@dataclass(frozen=True, slots=True)
class FilterReply:
    """Verdicts in the order of the items; an item that could not be judged is a failure and never an accept."""

    results: Sequence[ItemVerdict | ItemFailure]
    timing_ms: Timing
    calibration_stale: bool = False
    """True where the scores of a calibrated condition drift from their reference, so that its promise may not hold;
    else absent."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One place of a ranking."""

    index: int
    """Into the request's images or texts, from 0."""
    value: float
    truncated: bool = False
    """True where the scorer did not read the end of the text; else absent."""
    probability: float | None = None
    """That this image is preferred among all of the request that were scored, also those without a place; absent but
    for images of a text ranked by `pickscore` or `hpsv2`."""


@dataclass(frozen=True, slots=True)
class RankReply:
    """Best first, ties by index."""

    scorer: str
    """The scorer or combination that ranked."""
    ranking: Sequence[Ranked]
    errors: Mapping[int, PlumblineError]
    """What could not be scored, by index; absent where there is none."""
    timing_ms: Timing


@dataclass(frozen=True, slots=True)
class SelectReply:
    """What was chosen, and what that is worth."""

    index: int | None
    """Of the chosen image, from 0; null: none could be scored."""
    scorer: str
    """The scorer or combination that chose."""
    values: Sequence[float | None]
    """By image; null for one that could not be scored."""
    certified_gain: float | None
    """The least that the best of so many gains in what people want, in its standard deviations; null: not certified."""
    max_certified_n: int | None
    """The largest number of images to choose from that is certain to gain anything; null without a correlation."""
    overoptimised: bool | None
    """Whether these are more than that; null without a correlation."""
    errors: Mapping[int, PlumblineError]
    """What could not be scored, by index; absent where there is none."""
    timing_ms: Timing
    probabilities: Sequence[float | None] = ()
    """By image, that it was drawn; absent without a temperature."""
    truncated: bool = False
    """True where the scorer did not read the end of the text; else absent."""


@dataclass(frozen=True, slots=True)
class EmbedReply:
    """Unit-norm vectors in the order of the images or texts."""

    encoder: str
    """What embedded, by its key in `GET /v1/models`."""
    dim: int
    """Numbers per vector."""
    vectors: Sequence[NDArray[np.float32] | PlumblineError]
    """Numbers, or base64 of little-endian float32; a failure in the place of one that failed."""
    timing_ms: Timing
    truncated: Sequence[int] = ()
    """Texts whose end the encoder did not read, by index, from 0; absent where there is none."""


@dataclass(frozen=True, slots=True)
class ScorerEntry:
    """One loaded scorer."""

    id: str
    summary: str
    low: float | None
    """Lowest possible value; null where there is none."""
    high: float | None
    """Highest possible value; null where there is none."""
    higher_is_better: bool
    needs_text: bool
    needs: Sequence[str]
    """Fields of an item that it scores by; an item that lacks one gets an error from it."""
    encoders: Sequence[str]
    """What it computes with, by key in `GET /v1/models`."""
    precision: str
    """Of its encoders, each once: attributions are computed in fp32 always."""
    backend: str
    paper: str
    """An arXiv identifier."""
    licence: str
    """Of the weights behind it."""
    conventions: Mapping[str, str]
    """How the value is made, as configured, by setting."""
    context_length: int | None
    """Tokens that a text is cut to; null where no text is cut."""
    demo: bool = False
    """True where it computes with a demonstration network of the package, which knows drawings of simple shapes and no
    photographs; else absent."""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One loaded encoder."""

    key: str
    kind: str
    """`image`, `text`, or `pair` for both together."""
    arch: str
    source: str
    """Where the weights come from: a tag, a hub name, a file name, or `embedded`."""
    licence: str
    sha256: str
    dim: int
    backend: str
    precision: str
    device: str
    notes: Mapping[str, str]
    licence_class: str
    """`permissive`, `copyleft`, `restricted`, `non-commercial` or `unknown`; `licences.forbid` refuses by it."""
    demo: bool = False
    """True of a demonstration network of the package; else absent."""


KeptRequest: TypeAlias = CalibrationRequest | ClassifierRequest | ReferenceRequest
KeptReply: TypeAlias = Calibration | ClassifierEntry | ReferenceEntry
"""What is kept now."""
Request: TypeAlias = ScoreRequest | FilterRequest | RankRequest | SelectRequest | EmbedRequest | KeptRequest
Reply: TypeAlias = ScoreReply | FilterReply | RankReply | SelectReply | EmbedReply | KeptReply


def errors_of(reply: Reply) -> Iterator[tuple[str, PlumblineError]]:
    """What failed in a reply: the place, from 0, with the scorer where it is one of several, and why."""
    match reply:
        case RankReply(errors=errors) | SelectReply(errors=errors):
            yield from ((str(index), error) for index, error in errors.items())
        case EmbedReply(vectors=vectors):
            yield from ((str(i), each) for i, each in enumerate(vectors) if isinstance(each, PlumblineError))
        case Calibration() | ClassifierEntry() | ReferenceEntry():
            return
        case _:
            for index, result in enumerate(reply.results):
                if isinstance(result, ItemFailure):
                    yield str(index), result.error
                else:
                    found = result.scores.items()
                    yield from ((f"{index} {s}", e) for s, e in found if isinstance(e, PlumblineError))
