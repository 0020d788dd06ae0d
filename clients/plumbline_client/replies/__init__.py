"""The service's replies, typed: the REST bodies, field by field; over gRPC the same classes come back.

Unknown fields of a newer service are kept and readable as attributes.
"""

from plumbline_client.replies.decisions import (
    BoundTo,
    Calibration,
    CalibrationsReply,
    Deleted,
    GroupThreshold,
)
from plumbline_client.replies.embeddings import (
    Embedding,
    EmbedReply,
)
from plumbline_client.replies.entries import (
    EncoderEntry,
    ModelsReply,
    ScorerEntry,
    ScorersReply,
)
from plumbline_client.replies.items import (
    Answer,
    FrameValues,
    GuardFlags,
    ItemResult,
    ItemVerdict,
    ScoreValue,
    Word,
)
from plumbline_client.replies.scoring import (
    FilterReply,
    IndexedProblem,
    Ranked,
    RankReply,
    ScoreReply,
    SelectReply,
    TimedReply,
    Timing,
)

__all__ = [
    "Answer",
    "BoundTo",
    "Calibration",
    "CalibrationsReply",
    "Deleted",
    "EmbedReply",
    "Embedding",
    "EncoderEntry",
    "FilterReply",
    "FrameValues",
    "GroupThreshold",
    "GuardFlags",
    "IndexedProblem",
    "ItemResult",
    "ItemVerdict",
    "ModelsReply",
    "RankReply",
    "Ranked",
    "ScoreReply",
    "ScoreValue",
    "ScorerEntry",
    "ScorersReply",
    "SelectReply",
    "TimedReply",
    "Timing",
    "Word",
]
