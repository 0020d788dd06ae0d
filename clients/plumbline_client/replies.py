"""The service's replies, typed: the REST bodies, field by field; over gRPC the same classes come back.

Unknown fields of a newer service are kept and readable as attributes.
"""

import base64
import sys
from array import array
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from typing_extensions import Self

from plumbline_client.errors import problem_error
from plumbline_client.problems import Problem, ReplyModel

_FLOAT_BYTES = 4


class Word(ReplyModel):
    """One word of a text and what it adds to the match with the image."""

    text: str
    start: int
    """Offset into the text as sent, in characters; `text[start:end]` is the word."""
    end: int
    attribution: float
    """Negative where the word speaks against the match."""
    misaligned: bool
    """Whether the image does not show the word."""


class Answer(ReplyModel):
    """What the network answers to one question."""

    p_yes: float
    """Probability that it answers Yes."""
    p_no: float
    """Probability that it answers No."""
    score: float
    """That of the right answer; 0 where the question depends on one that failed."""


class FrameValues(ReplyModel):
    """What one scorer says of each frame of a video."""

    values: tuple[float, ...]
    """In the order of the frames."""
    mean: float
    min: float
    worst: int
    """The index of the frame that the scorer likes least, from 0."""


class ScoreValue(ReplyModel):
    """What one scorer says of one item: a value, or an error in its place."""

    value: float | None = None
    """In the scorer's range, see `scorers()`; None where `error` is set."""
    cosine: float | None = None
    """The raw cosine of image and text, -1 to 1, where the scorer has one."""
    words: tuple[Word, ...] = ()
    """In text order, where the scorer judges words."""
    truncated: bool = False
    """Whether the text is longer than what the scorer reads, and its end was left out."""
    answers: tuple[Answer, ...] = ()
    """One for each of the item's questions; this and the next four, where the scorer asks questions."""
    mean: float | None = None
    """The mean of the answers' scores."""
    min: float | None = None
    """The least of them."""
    failed: tuple[int, ...] = ()
    """Questions below the threshold, by index, from 0."""
    rates: Mapping[str, float] = Field(default_factory=dict)
    """By tag, the share of its questions that did not fail."""
    frames: FrameValues | None = None
    """Where the item is a video."""
    error: Problem | None = None


class _Result(ReplyModel):
    id: str
    status: Literal["ok", "error"]
    """`error` where nothing could be said of this item, and `error` says why; single scorers may fail all the same."""
    scores: Mapping[str, ScoreValue] = Field(default_factory=dict)
    """By scorer."""
    error: Problem | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the item was taken up; single scorers may still have failed."""
        return self.status == "ok"

    def value(self, scorer: str) -> float:
        """Return one scorer's value.

        Raises:
            ProblemError: The item, or this scorer for it, failed.
            KeyError: The scorer did not run.
        """
        if self.error is not None:
            raise problem_error(self.error)
        score = self.scores.get(scorer)
        if score is not None and score.error is not None:
            raise problem_error(score.error)
        if score is None or score.value is None:
            raise KeyError(self._why_absent(scorer))
        return score.value

    def _why_absent(self, scorer: str) -> str:
        near = get_close_matches(scorer, self.scores, n=1)
        found = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(self.scores) or 'none'}."
        return f"There is no score {scorer!r} of the item {self.id!r}: {found} {self._chosen}"

    @property
    def _chosen(self) -> str:
        """Which scorers an item has scores of."""
        return (
            "Where a call names no scorers, those run that the item has all inputs for: scorers() says what each needs."
        )


class GuardFlags(ReplyModel):
    """What guards say of an image: that it is suspect, never that it is safe. None: not computed."""

    fooling_suspect: bool | None = None
    """Whether it looks as if it was made to fit many texts, or as no real image does."""
    ood_score: float | None = None
    """Share of the operator's images that are more usual, in [0, 1]."""
    adversarial_suspect: bool | None = None
    """Whether its cosine with the text falls in a view as that of a real image hardly does."""
    policy: str | None = None
    """Which artefact says so; None: none is built for the encoder."""
    calibration_stale: bool = False
    """Whether one of the item's scores drifts from its reference."""
    explained: Mapping[str, float] = Field(default_factory=dict)
    """Numbers and the lines above which they are suspect, where `explain` was asked for."""


class ItemResult(_Result):
    """Scores of one item, or the problem it has."""

    guards: GuardFlags | None = None
    """None unless the call asks for guards."""


class ItemVerdict(_Result):
    """Whether one item passed, or the problem it has."""

    @property
    def _chosen(self) -> str:
        return "Scorers of the policy run, the cheapest first, until one rejects the item; explain=True runs all."

    verdict: Literal["accept", "reject"] | None = None
    """None where the item could not be judged."""
    failed: tuple[str, ...] = ()
    """Scorers whose condition did not hold."""
    reasons: Mapping[str, str] = Field(default_factory=dict)
    """By scorer, why it failed where that is not its value: a text with fewer than `min_words` words."""

    @property
    def is_accepted(self) -> bool:
        """Whether every threshold held; False where the item could not be judged."""
        return self.is_ok and self.verdict == "accept"


class Timing(ReplyModel):
    """Milliseconds of wall time that the request took in the service."""

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    total: float = 0.0


class _Reply(ReplyModel):
    request_id: str = ""
    timing_ms: Timing = Timing()


class ScoreReply(_Reply):
    """Results in the order of the items."""

    results: tuple[ItemResult, ...]


class FilterReply(_Reply):
    """Verdicts in the order of the items."""

    results: tuple[ItemVerdict, ...]
    calibration_stale: bool = False
    """Whether the scores of a calibrated condition drift from their reference, so that its promise may not hold."""


class Ranked(ReplyModel):
    """One place of a ranking."""

    index: int
    """Into the candidates, from 0."""
    value: float
    truncated: bool = False
    """Whether the scorer did not read the end of the text."""
    probability: float | None = None
    """That this image is preferred among all that were scored, where the scorer knows."""


class IndexedProblem(ReplyModel):
    """A candidate that could not be scored."""

    index: int
    error: Problem


class RankReply(_Reply):
    """Best first, ties by index."""

    scorer: str = ""
    ranking: tuple[Ranked, ...]
    errors: tuple[IndexedProblem, ...] = ()
    """Candidates without a place."""


class SelectReply(_Reply):
    """What was chosen, and what that is worth."""

    index: int | None = None
    """Of the chosen image, from 0; None: none could be scored."""
    scorer: str = ""
    values: tuple[float | None, ...]
    """By image; None for one that could not be scored."""
    certified_gain: float | None = None
    """The least that the best of so many gains in what people want, in its standard deviations; None: not certified."""
    max_certified_n: int | None = None
    """The largest number of images to choose from that is certain to gain anything; None without a correlation."""
    overoptimised: bool | None = None
    """Whether these are more than that; None without a correlation."""
    errors: tuple[IndexedProblem, ...] = ()
    """Images that could not be scored."""
    probabilities: tuple[float | None, ...] = ()
    """By image, that it was drawn; empty without a temperature."""
    truncated: bool = False
    """Whether the scorer did not read the end of the text."""


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
    alpha: float
    direction: Literal["keep_good", "reject_bad"]
    confidence: float | None = None
    """None where the promise holds on average."""
    groups: Mapping[str, GroupThreshold] = Field(default_factory=dict)
    """By group."""
    bound_to: BoundTo
    created: str = ""
    """RFC 3339, in UTC."""


class CalibrationsReply(ReplyModel):
    """The calibrations that are kept."""

    calibrations: tuple[Calibration, ...]


class Deleted(ReplyModel):
    """That something is kept no more."""

    status: Literal["deleted"]


class Embedding(ReplyModel):
    """One unit-norm vector, or an error in its place."""

    data: bytes = Field(default=b"", repr=False)
    """Little-endian float32: `numpy.frombuffer(embedding.data, "<f4")`."""
    error: Problem | None = None

    def floats(self) -> "array[float]":
        """Return the numbers.

        Raises:
            ProblemError: This input could not be embedded.
        """
        if self.error is not None:
            raise problem_error(self.error)
        numbers = array("f", self.data)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers


def _read_embedding(value: Any) -> Any:
    """Accept what REST may carry: base64 text, a list of numbers, or an object with an error."""
    if isinstance(value, str):
        return {"data": base64.b64decode(value, validate=True)}
    if isinstance(value, list):
        numbers = array("f", value)
        if sys.byteorder == "big":
            numbers.byteswap()
        return {"data": numbers.tobytes()}
    return value


class EmbedReply(_Reply):
    """Vectors in the order of the inputs."""

    encoder: str = Field(default="", validation_alias=AliasChoices("encoder", "model"))
    dim: int
    vectors: tuple[Annotated[Embedding, BeforeValidator(_read_embedding)], ...]
    truncated: tuple[int, ...] = ()
    """Texts whose end the encoder did not read, by index, from 0."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for vector in self.vectors:
            if vector.error is None and len(vector.data) != _FLOAT_BYTES * self.dim:
                raise ValueError("a vector has another length than dim says")
        return self


class ScorerEntry(ReplyModel):
    """One loaded scorer."""

    id: str
    summary: str = ""
    low: float | None = None
    """Lowest possible value; None where there is none."""
    high: float | None = None
    higher_is_better: bool = True
    needs_text: bool = True
    needs: tuple[str, ...] = ()
    """Fields of an item that it scores by."""
    encoders: tuple[str, ...] = ()
    precision: str = ""
    backend: str = ""
    paper: str = ""
    licence: str = ""
    """Of the weights behind it."""
    conventions: Mapping[str, str] = Field(default_factory=dict)
    """How the value is made, as configured, by setting."""
    context_length: int | None = None
    """Tokens that a text is cut to; None where no text is cut."""
    demo: bool = False
    """Whether it computes with a demonstration network, which knows drawings of simple shapes and no photographs."""


class EncoderEntry(ReplyModel):
    """One loaded encoder."""

    key: str
    kind: str = ""
    """`image`, `text`, or `pair` for both together."""
    arch: str = ""
    source: str = ""
    licence: str = ""
    sha256: str = ""
    dim: int = 0
    backend: str = ""
    precision: str = ""
    device: str = ""
    notes: Mapping[str, str] = Field(default_factory=dict)
    licence_class: str = ""
    """`permissive`, `copyleft`, `restricted`, `non-commercial` or `unknown`."""
    demo: bool = False
    """Whether it is a demonstration network of the package."""


class ScorersReply(ReplyModel):
    """The scorers."""

    scorers: tuple[ScorerEntry, ...]


class ModelsReply(ReplyModel):
    """The loaded encoders."""

    models: tuple[EncoderEntry, ...]
