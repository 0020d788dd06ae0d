"""The service's replies as JSON. Every number is printed so that it reads back as the same double.

A message's fields go out under their names; those that JSON writes otherwise stand here.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.edge.problems import problem
from plumbline_serve.messages import (
    Combination,
    EmbedReply,
    EncoderEntry,
    FilterReply,
    ItemFailure,
    ItemScores,
    ItemVerdict,
    RankReply,
    ScoreOrError,
    ScorerEntry,
    ScoreReply,
    SelectReply,
)
from plumbline_serve.messages.decisions import Calibration, ClassifierEntry
from plumbline_serve.messages.drift import DriftReply, ReferenceEntry
from plumbline_serve.messages.sets import ReferenceSetEntry, SetReply

Document: TypeAlias = dict[str, Any]
_FAILED = ("errors", "errors_a", "errors_b")
"""Fields of replies about sets that hold what failed, by index."""


def write_json(document: Mapping[str, Any]) -> bytes:
    """Print a document; numpy's numbers as the doubles that they equal, and not as their shortest float32 form."""
    return orjson.dumps(document, default=_plain)


def score_document(reply: ScoreReply) -> Document:
    """The body of a reply of `POST /v1/score`, but for its request id."""
    return _members(reply, results=[_item(result) for result in reply.results], timing_ms=_members(reply.timing_ms))


def filter_document(reply: FilterReply) -> Document:
    """The body of a reply of `POST /v1/filter`; see `score_document`."""
    return _members(reply, results=[_item(result) for result in reply.results], timing_ms=_members(reply.timing_ms))


def rank_document(reply: RankReply) -> Document:
    """The body of a reply of `POST /v1/rank`; see `score_document`."""
    errors = _indexed(reply.errors)
    ranking = [_members(place) for place in reply.ranking]
    document = _members(reply, ranking=ranking, errors=errors, timing_ms=_members(reply.timing_ms))
    if not errors:
        del document["errors"]
    return document


def select_document(reply: SelectReply) -> Document:
    """The body of a reply of `POST /v1/select`; see `score_document`."""
    errors = _indexed(reply.errors)
    document = _members(reply, errors=errors, timing_ms=_members(reply.timing_ms))
    if not errors:
        del document["errors"]
    return document


def calibration_document(reply: Calibration) -> Document:
    """One calibration, as a reply or among others."""
    groups = {name: _members(group) for name, group in reply.groups.items()}
    combine = {name: _combination(each) for name, each in reply.combine.items()}
    document = _members(reply, bound_to=_members(reply.bound_to), groups=groups, combine=combine)
    return {name: value for name, value in document.items() if value or name not in {"groups", "combine"}}


def _combination(combination: Combination) -> Document:
    return _members(combination, terms=[_members(term, weight=term.weight) for term in combination.terms])


def calibrations_document(entries: Sequence[Calibration]) -> Document:
    """The body of a reply of `GET /v1/calibrations`."""
    return {"calibrations": [calibration_document(entry) for entry in entries]}


def classifier_document(reply: ClassifierEntry) -> Document:
    """One classifier, as a reply or among others."""
    return _members(reply, bound_to=_members(reply.bound_to))


def classifiers_document(entries: Sequence[ClassifierEntry]) -> Document:
    """The body of a reply of `GET /v1/classifiers`."""
    return {"classifiers": [classifier_document(entry) for entry in entries]}


def reference_document(reply: ReferenceEntry) -> Document:
    """One reference, as a reply or among others."""
    return _members(reply, bound_to=_members(reply.bound_to))


def references_document(entries: Sequence[ReferenceEntry]) -> Document:
    """The body of a reply of `GET /v1/references`."""
    return {"references": [reference_document(entry) for entry in entries]}


def drift_document(reply: DriftReply) -> Document:
    """The body of a reply of `GET /v1/drift`."""
    scorers = {
        scorer: _members(entry, images={name: _members(each) for name, each in entry.images.items()})
        for scorer, entry in reply.scorers.items()
    }
    errors = {scorer: problem(error) for scorer, error in reply.errors.items()}
    return {"scorers": scorers, **({"errors": errors} if errors else {})}


def embed_document(reply: EmbedReply, encoding: Literal["float", "base64"]) -> Document:
    """The body of a reply of `POST /v1/embed`; see `score_document`.

    Args:
        reply: What the service replied.
        encoding: How the caller wants vectors.
    """
    write = base64_of if encoding == "base64" else _numbers
    vectors = [_failed(each) if isinstance(each, PlumblineError) else write(each) for each in reply.vectors]
    document = _members(reply, encoding=encoding, vectors=vectors, timing_ms=_members(reply.timing_ms))
    return {"model": document.pop("encoder")} | document


def set_document(reply: SetReply) -> Document:
    """The body of a reply of `POST /v1/sets/…`; see `score_document`."""
    named = {name: _indexed(errors) for name in _FAILED if (errors := getattr(reply, name, None))}
    return _members(reply, timing_ms=_members(reply.timing_ms), **named)


def reference_set_document(reply: ReferenceSetEntry) -> Document:
    """One set that is kept, as a reply or among others."""
    return _members(reply, bound_to=_members(reply.bound_to))


def reference_sets_document(entries: Sequence[ReferenceSetEntry]) -> Document:
    """The body of a reply of `GET /v1/sets/references`."""
    return {"sets": [reference_set_document(entry) for entry in entries]}


def scorers_document(entries: Sequence[ScorerEntry]) -> Document:
    """The body of a reply of `GET /v1/scorers`."""
    return {"scorers": [_members(entry) for entry in entries]}


def encoders_document(entries: Sequence[EncoderEntry]) -> Document:
    """The body of a reply of `GET /v1/models`."""
    return {"models": [_members(entry) for entry in entries]}


def openai_models(scorers: Sequence[ScorerEntry], encoders: Sequence[EncoderEntry]) -> Document:
    """What OpenAI's clients read of `GET /v1/models`: the scorers, those that can embed first.

    Args:
        scorers: That are loaded.
        encoders: Theirs.
    """
    kinds = {encoder.key: encoder.kind for encoder in encoders}

    def cannot_embed(scorer: ScorerEntry) -> bool:
        return not {"image", "text"} <= {kinds.get(key) for key in scorer.encoders}

    listed = sorted(scorers, key=cannot_embed)
    model = {"object": "model", "created": 0, "owned_by": "plumbline"}
    return {"object": "list", "data": [{"id": scorer.id, **model} for scorer in listed]}


def _item(result: ItemScores | ItemVerdict | ItemFailure) -> Document:
    if isinstance(result, ItemFailure):
        return {"id": result.id, "status": "error", **_failed(result.error)}
    scores = {scorer: _score(score) for scorer, score in result.scores.items()}
    guards = getattr(result, "guards", None)
    told = {} if guards is None else {"guards": _members(guards)}
    return _members(result, id=result.id, status="ok", scores=scores, **told)


def _score(score: ScoreOrError) -> Document:
    return _failed(score) if isinstance(score, PlumblineError) else {"value": score.value, **score.details}


def _indexed(errors: Mapping[int, PlumblineError]) -> list[Document]:
    return [{"index": index, "error": problem(error)} for index, error in sorted(errors.items())]


def _failed(error: PlumblineError) -> Document:
    return {"error": problem(error)}


def _members(message: object, **otherwise: Any) -> Document:
    """A message's fields by name, without those that have their default.

    Args:
        message: One of `messages`.
        otherwise: Values that JSON has in addition, or in place of a field's own.
    """
    kind: Any = type(message)  # of any object; mypy does not take its class for hashable
    required, optional = _fields(kind)
    for name in required:
        if name not in otherwise:
            otherwise[name] = getattr(message, name)
    for name, default in optional.items():
        value = getattr(message, name)
        is_empty = isinstance(default, Collection) and not default and not value  # a list that is no tuple, say
        if name not in otherwise and value != default and not is_empty:
            otherwise[name] = value
    return otherwise


@cache
def _fields(message: type) -> tuple[Sequence[str], Mapping[str, Any]]:
    """The names of a message's fields without a default, and the defaults of the others."""
    defaults = {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(message)
    }
    required = [name for name, default in defaults.items() if default is MISSING]
    return required, {name: default for name, default in defaults.items() if default is not MISSING}


def base64_of(vector: NDArray[np.float32]) -> str:
    """A vector as little-endian float32 in base64.

    Args:
        vector: `[D]`.
    """
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
