"""Client of the Plumbline scoring service: REST and gRPC, blocking and asyncio, one set of classes for all four.

The gRPC clients are imported when they are first named: they need the extra `grpc`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from plumbline_client.batches import Batch, BatchReply
from plumbline_client.errors import (
    AccessError,
    CapacityError,
    ConnectError,
    DeadlineError,
    DeadlineExceededError,
    ForbiddenError,
    InvalidRequestError,
    PlumblineClientError,
    ProblemError,
    RateLimitedError,
    TransportError,
    UnauthenticatedError,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_client.images import Image
from plumbline_client.items import Combination, Item, Question, Term, Threshold
from plumbline_client.kept_calls import ClassifierEntry, DriftEntry, DriftReply, ReferenceEntry, StatisticShift
from plumbline_client.options import CallOptions, ClientOptions
from plumbline_client.problems import FieldProblem, Problem
from plumbline_client.replies import (
    Answer,
    BoundTo,
    Calibration,
    Embedding,
    EmbedReply,
    EncoderEntry,
    FilterReply,
    FrameValues,
    GroupThreshold,
    IndexedProblem,
    ItemResult,
    ItemVerdict,
    Ranked,
    RankReply,
    ScorerEntry,
    ScoreReply,
    ScoreValue,
    SelectReply,
    Timing,
    Word,
)
from plumbline_client.rest_clients import AsyncClient, Client
from plumbline_client.retry import RetryPolicy
from plumbline_client.rewards import Rewards
from plumbline_client.set_replies import AuditReply, DistanceReply, DiversityReply, ReferenceSetEntry, Sce
from plumbline_client.sets import EncodingSet
from plumbline_client.tls import Tls

if TYPE_CHECKING:
    from plumbline_client.grpc_clients import AsyncGrpcClient, GrpcClient

__all__ = [
    "AccessError",
    "Answer",
    "AsyncClient",
    "AsyncGrpcClient",
    "AuditReply",
    "Batch",
    "BatchReply",
    "BoundTo",
    "Calibration",
    "CallOptions",
    "CapacityError",
    "ClassifierEntry",
    "Client",
    "ClientOptions",
    "Combination",
    "ConnectError",
    "DeadlineError",
    "DeadlineExceededError",
    "DistanceReply",
    "DiversityReply",
    "DriftEntry",
    "DriftReply",
    "EmbedReply",
    "Embedding",
    "EncoderEntry",
    "EncodingSet",
    "FieldProblem",
    "FilterReply",
    "ForbiddenError",
    "FrameValues",
    "GroupThreshold",
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
    "Question",
    "RankReply",
    "Ranked",
    "RateLimitedError",
    "ReferenceEntry",
    "ReferenceSetEntry",
    "RetryPolicy",
    "Rewards",
    "Sce",
    "ScoreReply",
    "ScoreValue",
    "ScorerEntry",
    "SelectReply",
    "StatisticShift",
    "Term",
    "Threshold",
    "Timing",
    "Tls",
    "TransportError",
    "UnauthenticatedError",
    "UnexpectedReplyError",
    "UsageError",
    "Word",
]
_OVER_GRPC = frozenset({"AsyncGrpcClient", "GrpcClient"})


def __getattr__(name: str) -> Any:
    if name not in _OVER_GRPC:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        module = importlib.import_module(f"{__name__}.grpc_clients")
    except ImportError as error:
        raise ImportError(f"{name} needs the extra grpc: pip install 'plumbline-client[grpc]' ({error}).") from error
    return getattr(module, name)
