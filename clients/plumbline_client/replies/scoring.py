"""The replies to scoring, filtering, ranking and choosing."""

from plumbline_client.problems import Problem, ReplyModel
from plumbline_client.replies.items import ItemResult, ItemVerdict


class Timing(ReplyModel):
    """Milliseconds of wall time that the request took in the service."""

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    total: float = 0.0


class TimedReply(ReplyModel):
    """What every reply to a call of inputs has."""

    request_id: str = ""
    timing_ms: Timing = Timing()


class ScoreReply(TimedReply):
    """Results in the order of the items."""

    results: tuple[ItemResult, ...]


class FilterReply(TimedReply):
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


class RankReply(TimedReply):
    """Best first, ties by index."""

    scorer: str = ""
    ranking: tuple[Ranked, ...]
    errors: tuple[IndexedProblem, ...] = ()
    """Candidates without a place."""


class SelectReply(TimedReply):
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
