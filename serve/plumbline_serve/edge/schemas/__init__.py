"""The bodies of REST, as pydantic classes: requests are read with them, replies are documented by them."""

from plumbline_serve.edge.schemas.items import FilterRequest, Item, ScoreRequest, Threshold
from plumbline_serve.edge.schemas.lists import EncoderEntry, ModelsReply, ScorerEntry, ScorersReply
from plumbline_serve.edge.schemas.problem import FieldFault, ItemProblem, Problem
from plumbline_serve.edge.schemas.replies import EmbedReply, FilterReply, RankReply, ScoreReply
from plumbline_serve.edge.schemas.request import Request
from plumbline_serve.edge.schemas.sides import EmbedRequest, RankRequest
from plumbline_serve.edge.schemas.source import ImageSource, RawShape

__all__ = [
    "EmbedReply",
    "EmbedRequest",
    "EncoderEntry",
    "FieldFault",
    "FilterReply",
    "FilterRequest",
    "ImageSource",
    "Item",
    "ItemProblem",
    "ModelsReply",
    "Problem",
    "RankReply",
    "RankRequest",
    "RawShape",
    "Request",
    "ScoreReply",
    "ScoreRequest",
    "ScorerEntry",
    "ScorersReply",
    "Threshold",
]
