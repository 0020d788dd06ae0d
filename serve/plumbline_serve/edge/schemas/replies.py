"""Replies to the four questions. They document: the replies themselves are written by `rest_replies`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from plumbline_serve.edge.schemas.problem import ItemProblem


class Timing(BaseModel):
    """Milliseconds of wall time that the request took in the service."""

    decode: float = Field(description="Decoding and fitting of images: the sum over all, on however many threads.")
    queue: float = Field(
        description="The longest wait for an encoder, or for encodings that another request was having made already."
    )
    compute: float = Field(description="The longest time that an encoder took.")
    total: float


class Word(BaseModel):
    """One word of the text."""

    text: str
    start: int = Field(description="Offset into the text as sent, in characters.")
    end: int
    attribution: float = Field(description="What the word adds to the match; negative where it speaks against it.")
    misaligned: bool = Field(description="Whether the image does not show the word.")


class ScoreValue(BaseModel):
    """What one scorer says of one item; some say more, such as `resized` (qualiclip)."""

    model_config = ConfigDict(extra="allow")

    value: float = Field(description="In the scorer's range, see `GET /v1/scorers`.")
    cosine: float = Field(
        default_factory=float, description="The raw cosine of image and text; clipscore and fclipscore."
    )
    words: list[Word] = Field(default_factory=list, description="In text order; fclipscore.")
    truncated: bool = Field(
        default_factory=bool,
        description="True where the text is longer than what the scorer reads, and its end was left out; else absent.",
    )


class Failed(BaseModel):
    """Stands in the place of what could not be made."""

    error: ItemProblem


class ItemScores(BaseModel):
    """An item that was scored; single scorers may have failed."""

    id: str
    status: Literal["ok"]
    scores: dict[str, ScoreValue | Failed] = Field(description="By scorer.")


class ItemVerdict(BaseModel):
    """An item that was judged."""

    id: str
    status: Literal["ok"]
    verdict: Literal["accept", "reject"]
    failed: list[str] = Field(description="Scorers whose condition did not hold.")
    reasons: dict[str, str] = Field(
        default_factory=dict,
        description="By scorer, why it failed where that is not its value: a text with fewer than `min_words` words.",
    )
    scores: dict[str, ScoreValue | Failed] = Field(description="By scorer; those that ran.")


class ItemFailure(BaseModel):
    """An item that nothing could be said of."""

    id: str
    status: Literal["error"]
    error: ItemProblem


class _Reply(BaseModel):
    request_id: str
    timing_ms: Timing


class ScoreReply(_Reply):
    """Results in the order of the items."""

    results: list[ItemScores | ItemFailure]


class FilterReply(_Reply):
    """Verdicts in the order of the items; an item that could not be judged is a failure and never an accept."""

    results: list[ItemVerdict | ItemFailure]


class Ranked(BaseModel):
    """One place of a ranking."""

    index: int = Field(description="Into the request's images or texts, from 0.")
    value: float
    truncated: bool = Field(
        default_factory=bool, description="True where the scorer did not read the end of the text; else absent."
    )


class IndexedProblem(BaseModel):
    """One image or text without a place."""

    index: int
    error: ItemProblem


class RankReply(_Reply):
    """Best first, ties by index."""

    scorer: str = Field(description="The scorer that ranked.")
    ranking: list[Ranked]
    errors: list[IndexedProblem] = Field(
        default_factory=list, description="What could not be scored; absent where there is none."
    )


class EmbedReply(_Reply):
    """Unit-norm vectors in the order of the images or texts."""

    model: str = Field(description="What embedded, by its key in `GET /v1/models`.")
    dim: int = Field(description="Numbers a vector.")
    encoding: Literal["float", "base64"]
    vectors: list[list[float] | str | Failed] = Field(
        description="Numbers, or base64 of little-endian float32; a failure in the place of one that failed."
    )
    truncated: list[int] = Field(
        default_factory=list,
        description="Texts whose end the encoder did not read, by index, from 0; absent where there is none.",
    )
