"""The service's answers as JSON. Every number is printed so that it reads back as the same double."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.edge import schemas
from plumbline_serve.edge.problems import problem
from plumbline_serve.messages import (
    EmbedReply,
    EncoderEntry,
    FilterReply,
    ItemFailure,
    ItemScores,
    ItemVerdict,
    Ranked,
    RankReply,
    ScoreOrError,
    ScorerEntry,
    ScoreReply,
    Timing,
)

Document: TypeAlias = dict[str, Any]


def write_json(document: Document) -> bytes:
    """Print a document; numpy's numbers as the doubles that they equal, and not as their shortest float32 form."""
    return orjson.dumps(document, default=_plain)


def score_document(reply: ScoreReply) -> Document:
    """What `POST /v1/score` answers."""
    return {"results": [_item(result) for result in reply.results], "timing_ms": _members(reply.timing)}


def filter_document(reply: FilterReply) -> Document:
    """What `POST /v1/filter` answers."""
    return {"results": [_item(result) for result in reply.results], "timing_ms": _members(reply.timing)}


def rank_document(reply: RankReply) -> Document:
    """What `POST /v1/rank` answers."""
    document: Document = {
        "scorer": reply.scorer,
        "ranking": [_place(place) for place in reply.ranking],
    }
    if reply.errors:
        document["errors"] = [{"index": i, "error": problem(error)} for i, error in sorted(reply.errors.items())]
    return document | {"timing_ms": _members(reply.timing)}


def embed_document(reply: EmbedReply, body: schemas.EmbedRequest) -> Document:
    """What `POST /v1/embed` answers, in the encoding asked for."""
    write = _base64 if body.encoding == "base64" else _numbers
    document: Document = {
        "model": reply.encoder,
        "dim": reply.dim,
        "encoding": body.encoding,
        "vectors": [_failed(each) if isinstance(each, PlumblineError) else write(each) for each in reply.vectors],
    }
    if reply.truncated:
        document["truncated"] = list(reply.truncated)
    return document | {"timing_ms": _members(reply.timing)}


def scorers_document(entries: Sequence[ScorerEntry]) -> Document:
    """What `GET /v1/scorers` answers."""
    return {"scorers": [_members(entry) for entry in entries]}


def encoders_document(entries: Sequence[EncoderEntry]) -> Document:
    """What `GET /v1/models` answers."""
    return {"models": [_members(entry) for entry in entries]}


def _item(result: ItemScores | ItemVerdict | ItemFailure) -> Document:
    if isinstance(result, ItemFailure):
        return {"id": result.id, "status": "error", **_failed(result.error)}
    scores = {scorer: _score(score) for scorer, score in result.scores.items()}
    if isinstance(result, ItemScores):
        return {"id": result.id, "status": "ok", "scores": scores}
    return {
        "id": result.id,
        "status": "ok",
        "verdict": result.verdict,
        "failed": list(result.failed),
        **({"reasons": dict(result.reasons)} if result.reasons else {}),
        "scores": scores,
    }


def _score(score: ScoreOrError) -> Document:
    return _failed(score) if isinstance(score, PlumblineError) else {"value": score.value, **score.details}


def _place(place: Ranked) -> Document:
    return {"index": place.index, "value": place.value} | ({"truncated": True} if place.truncated else {})


def _failed(error: PlumblineError) -> Document:
    return {"error": problem(error)}


def _members(entry: ScorerEntry | EncoderEntry | Timing) -> Document:
    return {each.name: getattr(entry, each.name) for each in fields(entry)}


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _numbers(vector: NDArray[np.float32]) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers


def _plain(value: Any) -> Any:
    """What orjson does not know: numpy's numbers and arrays, and mappings that are no dict."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")
