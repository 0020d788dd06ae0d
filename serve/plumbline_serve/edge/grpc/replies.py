"""The service's answers as protobuf messages; the same numbers as in JSON, bit by bit."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from google.protobuf.struct_pb2 import Struct

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Score
from plumbline_serve.edge.problems import status
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
    Timing,
)
from plumbline_wire.v1 import scoring_pb2 as pb

_VERDICTS = {"accept": pb.VERDICT_ACCEPT, "reject": pb.VERDICT_REJECT}
_FIELDS = frozenset({"cosine", "words", "truncated"})  # of a score's details, those that have a field of their own


def score_reply(reply: ScoreReply, request_id: str) -> pb.ScoreReply:
    """What `Score` answers."""
    results = [_item(result) for result in reply.results]
    return pb.ScoreReply(request_id=request_id, results=results, timing_ms=_timing(reply.timing))


def filter_reply(reply: FilterReply, request_id: str) -> pb.FilterReply:
    """What `Filter` answers."""
    results = [_verdict(result) for result in reply.results]
    return pb.FilterReply(request_id=request_id, results=results, timing_ms=_timing(reply.timing))


def rank_reply(reply: RankReply, request_id: str) -> pb.RankReply:
    """What `Rank` answers."""
    return pb.RankReply(
        request_id=request_id,
        scorer=reply.scorer,
        ranking=[
            pb.Ranked(index=place.index, value=float(place.value), truncated=place.truncated) for place in reply.ranking
        ],
        errors=[pb.IndexedError(index=index, error=status(error)) for index, error in sorted(reply.errors.items())],
        timing_ms=_timing(reply.timing),
    )


def embed_reply(reply: EmbedReply, request_id: str) -> pb.EmbedReply:
    """What `Embed` answers."""
    vectors = [
        pb.Embedding(error=status(each))
        if isinstance(each, PlumblineError)
        else pb.Embedding(float32_le=each.astype("<f4").tobytes())
        for each in reply.vectors
    ]
    return pb.EmbedReply(
        request_id=request_id,
        encoder=reply.encoder,
        dim=reply.dim,
        vectors=vectors,
        timing_ms=_timing(reply.timing),
        truncated=reply.truncated,
    )


def scorers_reply(entries: Sequence[ScorerEntry]) -> pb.ListScorersReply:
    """What `ListScorers` answers."""
    return pb.ListScorersReply(
        scorers=[
            pb.ScorerEntry(
                id=entry.id,
                summary=entry.summary,
                low=entry.low,
                high=entry.high,
                higher_is_better=entry.higher_is_better,
                needs_text=entry.needs_text,
                encoders=entry.encoders,
                precision=entry.precision,
                backend=entry.backend,
                paper=entry.paper,
                licence=entry.licence,
                conventions=entry.conventions,
                context_length=entry.context_length,
            )
            for entry in entries
        ]
    )


def encoders_reply(entries: Sequence[EncoderEntry]) -> pb.ListModelsReply:
    """What `ListModels` answers."""
    return pb.ListModelsReply(
        models=[
            pb.EncoderEntry(
                key=entry.key,
                kind=entry.kind,
                arch=entry.arch,
                source=entry.source,
                licence=entry.licence,
                sha256=entry.sha256,
                dim=entry.dim,
                backend=entry.backend,
                precision=entry.precision,
                device=entry.device,
                notes=entry.notes,
            )
            for entry in entries
        ]
    )


def _item(result: ItemResult) -> pb.ItemResult:
    if isinstance(result, ItemFailure):
        return pb.ItemResult(id=result.id, error=status(result.error))
    return pb.ItemResult(id=result.id, scores=_scores(result.scores))


def _verdict(result: ItemVerdict | ItemFailure) -> pb.ItemVerdict:
    if isinstance(result, ItemFailure):
        return pb.ItemVerdict(id=result.id, error=status(result.error))
    return pb.ItemVerdict(
        id=result.id,
        verdict=_VERDICTS[result.verdict],
        failed=result.failed,
        scores=_scores(result.scores),
        reasons=result.reasons,
    )


def _scores(scores: Mapping[str, ScoreOrError]) -> dict[str, pb.ScoreValue]:
    return {
        scorer: pb.ScoreValue(error=status(score)) if isinstance(score, PlumblineError) else _score(score)
        for scorer, score in scores.items()
    }


def _score(score: Score) -> pb.ScoreValue:
    cosine = score.details.get("cosine")
    message = pb.ScoreValue(
        value=float(score.value),
        cosine=None if cosine is None else float(cosine),
        words=[_word(word) for word in score.details.get("words", ())],
        truncated=bool(score.details.get("truncated")),
    )
    if further := {name: value for name, value in score.details.items() if name not in _FIELDS}:
        struct = Struct()
        struct.update(orjson.loads(write_json(further)))
        message.details.CopyFrom(struct)
    return message


def _word(word: Mapping[str, Any]) -> pb.Word:
    return pb.Word(
        text=word["text"],
        start=int(word["start"]),
        end=int(word["end"]),
        attribution=float(word["attribution"]),
        misaligned=bool(word["misaligned"]),
    )


def _timing(timing: Timing) -> pb.Timing:
    return pb.Timing(decode=timing.decode, queue=timing.queue, compute=timing.compute, total=timing.total)
