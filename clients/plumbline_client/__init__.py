"""Client of the Plumbline scoring service: REST and gRPC, blocking and asyncio, one set of classes for all four."""

from plumbline_client.answers import (
    Embedding,
    EmbedResponse,
    EncoderEntry,
    FilterResponse,
    IndexedProblem,
    ItemResult,
    ItemVerdict,
    Ranked,
    RankResponse,
    ScorerEntry,
    ScoreResponse,
    ScoreValue,
    Timing,
    Word,
)
from plumbline_client.errors import (
    AccessError,
    CapacityError,
    ConnectError,
    DeadlineError,
    DeadlineExceededError,
    InvalidRequestError,
    PlumblineClientError,
    ProblemError,
    TransportError,
    UnexpectedAnswerError,
    UsageError,
)
from plumbline_client.grpc_clients import AsyncGrpcClient, GrpcClient
from plumbline_client.images import Image
from plumbline_client.items import Item, Threshold
from plumbline_client.options import CallOptions, ClientOptions
from plumbline_client.problems import FieldProblem, Problem
from plumbline_client.rest_clients import AsyncClient, Client
from plumbline_client.retry import RetryPolicy
from plumbline_client.streams import Batch, BatchReply

__all__ = [
    "AccessError",
    "AsyncClient",
    "AsyncGrpcClient",
    "Batch",
    "BatchReply",
    "CallOptions",
    "CapacityError",
    "Client",
    "ClientOptions",
    "ConnectError",
    "DeadlineError",
    "DeadlineExceededError",
    "EmbedResponse",
    "Embedding",
    "EncoderEntry",
    "FieldProblem",
    "FilterResponse",
    "GrpcClient",
    "Image",
    "IndexedProblem",
    "InvalidRequestError",
    "Item",
    "ItemResult",
    "ItemVerdict",
    "PlumblineClientError",
    "Problem",
    "ProblemError",
    "RankResponse",
    "Ranked",
    "RetryPolicy",
    "ScoreResponse",
    "ScoreValue",
    "ScorerEntry",
    "Threshold",
    "Timing",
    "TransportError",
    "UnexpectedAnswerError",
    "UsageError",
    "Word",
]
