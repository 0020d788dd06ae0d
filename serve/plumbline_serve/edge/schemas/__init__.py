"""The bodies of REST, as pydantic classes: requests are read with them, replies are documented by them."""

from plumbline_serve.edge.schemas.replies import (
    EmbedReply,
    EncoderEntry,
    FilterReply,
    ModelsReply,
    Problem,
    Ranked,
    RankReply,
    ScorerEntry,
    ScoreReply,
    ScorersReply,
)
from plumbline_serve.edge.schemas.requests import (
    Combination,
    EmbedRequest,
    FilterRequest,
    ImageSource,
    Item,
    Question,
    RankRequest,
    Request,
    ScoreRequest,
    Threshold,
)

__all__ = [
    "Combination",
    "EmbedReply",
    "EmbedRequest",
    "EncoderEntry",
    "FilterReply",
    "FilterRequest",
    "ImageSource",
    "Item",
    "ModelsReply",
    "Problem",
    "Question",
    "RankReply",
    "RankRequest",
    "Ranked",
    "Request",
    "ScoreReply",
    "ScoreRequest",
    "ScorerEntry",
    "ScorersReply",
    "Threshold",
]
