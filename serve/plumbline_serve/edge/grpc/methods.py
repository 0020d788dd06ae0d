"""The methods of `plumbline.v1.Scoring` with one request and one reply that score; `set_rpcs` has those about sets."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message as ProtoMessage

from plumbline_serve.edge.access import Scope
from plumbline_serve.edge.grpc import replies as grpc_replies
from plumbline_serve.edge.grpc import requests as grpc_requests
from plumbline_serve.messages.sets import AnyReply, AnyRequest
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.scheduling.request_context import Caller
from plumbline_serve.settings import Limits
from plumbline_wire.v1 import scoring_pb2 as pb

M = TypeVar("M", bound=AnyRequest)
T = TypeVar("T", bound=AnyReply)
L = TypeVar("L")
Q = TypeVar("Q", bound=ProtoMessage)
R = TypeVar("R", bound=ProtoMessage)


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, M, T, R]):
    """What a method is called, and what stands between the wire and the service."""

    name: str
    read: Callable[[Q, Limits], M]
    call: Callable[[Service, M, Caller], Awaitable[T]]
    write: Callable[[T, str], R]
    failed: Callable[[], R]
    """Makes what is returned beside an error."""
    scope: Scope = "score"
    """What the caller's key must be for."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[L, R]):
    """What a method is called that takes nothing and lists what there is, and what stands between."""

    name: str
    call: Callable[[Service], Awaitable[L]]
    write: Callable[[L], R]
    failed: Callable[[], R]
    """As `Method.failed`."""


SCORE = Method(
    "Score",
    grpc_requests.score_request,
    lambda service, message, caller: service.score(message, caller),
    grpc_replies.score_reply,
    pb.ScoreReply,
)
FILTER = Method(
    "Filter",
    grpc_requests.filter_request,
    lambda service, message, caller: service.filter(message, caller),
    grpc_replies.filter_reply,
    pb.FilterReply,
)
RANK = Method(
    "Rank",
    grpc_requests.rank_request,
    lambda service, message, caller: service.rank(message, caller),
    grpc_replies.rank_reply,
    pb.RankReply,
)
SELECT = Method(
    "Select",
    grpc_requests.select_request,
    lambda service, message, caller: service.select(message, caller),
    grpc_replies.select_reply,
    pb.SelectReply,
)
EMBED = Method(
    "Embed",
    grpc_requests.embed_request,
    lambda service, message, caller: service.embed(message, caller),
    grpc_replies.embed_reply,
    pb.EmbedReply,
)
LIST_SCORERS = Listing(
    "ListScorers", lambda service: service.named_scorers(), grpc_replies.scorers_reply, pb.ListScorersReply
)
LIST_MODELS = Listing("ListModels", lambda service: service.encoders(), grpc_replies.encoders_reply, pb.ListModelsReply)
