"""The service's replies as protobuf messages; the same numbers as in JSON, bit by bit.

Fields of the same name are copied; those that protobuf writes otherwise than the message has them stand here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import orjson
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Score
from plumbline_serve.edge.grpc.status import status
from plumbline_serve.edge.rest.replies import write_json
from plumbline_serve.messages import (
    EmbedReply,
    EncoderEntry,
    FilterReply,
    ItemFailure,
    ItemResult,
    ItemVerdict,
    RankReply,
    ScoreOrError,
    ScorerEntry,
    ScoreReply,
    SelectReply,
)
from plumbline_wire.v1 import scoring_pb2 as pb

M = TypeVar("M", bound=Message)
_VERDICTS = {"accept": pb.VERDICT_ACCEPT, "reject": pb.VERDICT_REJECT}
_DETAILS = frozenset(pb.ScoreValue.DESCRIPTOR.fields_by_name) - {"value", "details", "error"}
"""Of a score's details, those that have a field of their own."""


def score_reply(reply: ScoreReply, request_id: str) -> pb.ScoreReply:
    """The reply to a call of `Score`.

    Args:
        reply: What the service replied.
        request_id: Names the call.
    """
    return write(pb.ScoreReply, reply, request_id=request_id, results=[_item(result) for result in reply.results])


def filter_reply(reply: FilterReply, request_id: str) -> pb.FilterReply:
    """The reply to a call of `Filter`; see `score_reply`."""
    return write(pb.FilterReply, reply, request_id=request_id, results=[_verdict(result) for result in reply.results])


def rank_reply(reply: RankReply, request_id: str) -> pb.RankReply:
    """The reply to a call of `Rank`; see `score_reply`."""
    return write(pb.RankReply, reply, request_id=request_id, errors=indexed(reply.errors))


def select_reply(reply: SelectReply, request_id: str) -> pb.SelectReply:
    """The reply to a call of `Select`; see `score_reply`."""
    drawn = reply.probabilities or [None] * len(reply.values)
    values = [pb.SelectValue(value=each, probability=p) for each, p in zip(reply.values, drawn, strict=True)]
    return write(pb.SelectReply, reply, request_id=request_id, values=values, errors=indexed(reply.errors))


def embed_reply(reply: EmbedReply, request_id: str) -> pb.EmbedReply:
    """The reply to a call of `Embed`; see `score_reply`."""
    vectors = [
        pb.Embedding(error=status(each))
        if isinstance(each, PlumblineError)
        else pb.Embedding(float32_le=each.astype("<f4").tobytes())
        for each in reply.vectors
    ]
    return write(pb.EmbedReply, reply, request_id=request_id, vectors=vectors)


def scorers_reply(entries: Sequence[ScorerEntry]) -> pb.ListScorersReply:
    """The reply to a call of `ListScorers`."""
    return pb.ListScorersReply(scorers=[write(pb.ScorerEntry, entry) for entry in entries])


def encoders_reply(entries: Sequence[EncoderEntry]) -> pb.ListModelsReply:
    """The reply to a call of `ListModels`."""
    return pb.ListModelsReply(models=[write(pb.EncoderEntry, entry) for entry in entries])


def indexed(errors: Mapping[int, PlumblineError]) -> list[pb.IndexedError]:
    """What failed, by index, as the wires have it."""
    return [pb.IndexedError(index=index, error=status(error)) for index, error in sorted(errors.items())]


def _item(result: ItemResult) -> pb.ItemResult:
    if isinstance(result, ItemFailure):
        return pb.ItemResult(id=result.id, error=status(result.error))
    told = {} if result.guards is None else {"guards": write(pb.GuardFlags, result.guards)}
    return write(pb.ItemResult, result, scores=_scores(result.scores), **{"guards": None, **told})


def _verdict(result: ItemVerdict | ItemFailure) -> pb.ItemVerdict:
    if isinstance(result, ItemFailure):
        return pb.ItemVerdict(id=result.id, error=status(result.error))
    return write(pb.ItemVerdict, result, verdict=_VERDICTS[result.verdict], scores=_scores(result.scores))


def _scores(scores: Mapping[str, ScoreOrError]) -> dict[str, pb.ScoreValue]:
    return {
        scorer: pb.ScoreValue(error=status(score)) if isinstance(score, PlumblineError) else _score(score)
        for scorer, score in scores.items()
    }


def _score(score: Score) -> pb.ScoreValue:
    details = orjson.loads(write_json(score.details)) if score.details else {}  # free of numpy's numbers
    own = {name: details.pop(name) for name in _DETAILS & details.keys()}
    message = pb.ScoreValue(value=float(score.value), **own)
    if details:
        message.details.update(details)
    return message


def write(kind: type[M], source: object, **otherwise: Any) -> M:
    """A protobuf message.

    Args:
        kind: Its class.
        source: One of `messages`; fields that both have are copied.
        otherwise: Values that protobuf has in addition, or in place of a field's own.
    """
    source_kind: Any = type(source)  # of any object; mypy does not take its class for hashable
    names = [name for name in _shared(kind.DESCRIPTOR, source_kind) if name not in otherwise]
    return kind(**{name: _plain(getattr(source, name)) for name in names}, **otherwise)


@cache
def _shared(descriptor: Descriptor, source: type) -> Sequence[str]:
    return [each.name for each in fields(source) if each.name in descriptor.fields_by_name]


def _plain(value: Any) -> Any:
    """What protobuf takes: no numbers of numpy, and dicts in place of messages."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value
