"""What callers get.

Replies are written field by field: a field goes out under its name, and where it has a default, only if it differs from
it (REST). REST's schema takes types and descriptions from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Score
from plumbline_serve.messages.decisions import Calibration, ClassifierEntry
from plumbline_serve.messages.drift import ReferenceEntry


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
    num_tokens: int = 0
    """Tokens that the encoder read of all texts, those that frame a text among them; absent for images."""


KeptReply: TypeAlias = Calibration | ClassifierEntry | ReferenceEntry
"""What is kept now."""
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
