"""What a service says of one item."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal

from pydantic import Field

from plumbline_client.errors import problem_error
from plumbline_client.problems import Problem, ReplyModel


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
