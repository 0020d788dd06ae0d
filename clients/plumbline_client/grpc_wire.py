"""Asks as protobuf messages and protobuf replies as REST documents; pure functions of messages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import empty_pb2, json_format, wrappers_pb2
from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from plumbline_client import asks
from plumbline_client.answers import ScoreResponse
from plumbline_client.asks import Ask, Document
from plumbline_client.calls import Call
from plumbline_client.errors import UnexpectedAnswerError, UsageError
from plumbline_client.grpc_problems import problem_document
from plumbline_client.images import Image
from plumbline_wire import SCORING_SERVICE
from plumbline_wire.v1 import scoring_pb2 as pb

T = TypeVar("T", bound=BaseModel)
_VERDICTS = {pb.VERDICT_ACCEPT: "accept", pb.VERDICT_REJECT: "reject"}
_SERVING = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus


@dataclass(frozen=True, slots=True)
class Rpc:
    """How one kind of ask travels."""

    path: str
    reply: type[Message]
    message: Callable[[Document], Message]
    """Writes a document, with `Image` objects where images stand."""
    document: Callable[[Any], Document]
    """Reads a reply into the shape of the REST answer."""


def encode(ask: Ask[Any], call: Call) -> Message:
    """Write an ask.

    Raises:
        UsageError: A value does not fit its field.
        DeadlineError: The call's time is over.
    """
    try:
        return RPCS[type(ask)].message(call.document(ask))
    except (TypeError, ValueError) as error:
        raise UsageError(f"The request cannot be written as a message: {error}.") from error


def decode(ask: Ask[T], reply: Message) -> T:
    """Read a reply.

    Raises:
        UnexpectedAnswerError: The reply breaks the contract.
    """
    return _validated(ask.answer, RPCS[type(ask)].document(reply))


def read_score(reply: pb.ScoreReply) -> ScoreResponse:
    """Read the reply to one batch of a stream.

    Raises:
        UnexpectedAnswerError: The reply breaks the contract.
    """
    return _validated(ScoreResponse, _score_document(reply))


def score_message(document: Document) -> pb.ScoreRequest:
    """Write the body of `/v1/score`."""
    request = pb.ScoreRequest(scorers=document.get("scorers"), timeout_ms=document.get("timeout_ms"))
    _fill_items(request, document)
    return request


def _validated(answer: type[T], document: Document) -> T:
    try:
        return answer.model_validate(document)
    except ValidationError as error:
        raise UnexpectedAnswerError("The reply breaks the contract.") from error


def _score_document(reply: pb.ScoreReply) -> Document:
    return _head(reply) | {"results": [_scored(result) for result in reply.results]}


def _filter_message(document: Document) -> pb.FilterRequest:
    thresholds = [pb.Threshold(**each) for each in document["policy"]["all"]]
    request = pb.FilterRequest(policy=pb.Policy(all=thresholds), timeout_ms=document.get("timeout_ms"))
    request.explain = document.get("explain", False)
    _fill_items(request, document)
    return request


def _filter_document(reply: pb.FilterReply) -> Document:
    return _head(reply) | {"results": [_judged(result) for result in reply.results]}


def _rank_message(document: Document) -> pb.RankRequest:
    request = pb.RankRequest(**_plain(document))
    if "image" in document:
        _fill_source(request.image, document["image"])
    for image in document.get("images", ()):
        _fill_source(request.images.add(), image)
    return request


def _rank_document(reply: pb.RankReply) -> Document:
    return _head(reply) | {
        "scorer": reply.scorer,
        "ranking": [{"index": each.index, "value": each.value, "truncated": each.truncated} for each in reply.ranking],
        "errors": [{"index": each.index, "error": problem_document(each.error)} for each in reply.errors],
    }


def _embed_message(document: Document) -> pb.EmbedRequest:
    request = pb.EmbedRequest(**_plain(document))
    for image in document.get("images", ()):
        _fill_source(request.images.add(), image)
    return request


def _embed_document(reply: pb.EmbedReply) -> Document:
    vectors = [
        {"error": problem_document(each.error)} if each.HasField("error") else {"data": each.float32_le}
        for each in reply.vectors
    ]
    document = {"encoder": reply.encoder, "dim": reply.dim, "vectors": vectors, "truncated": list(reply.truncated)}
    return _head(reply) | document


def _list_document(reply: pb.ListScorersReply | pb.ListModelsReply) -> Document:
    return json_format.MessageToDict(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _ready_document(reply: wrappers_pb2.Int32Value) -> Document:
    return {"status": "ready" if reply.value == _SERVING else "not_ready"}


def _fill_items(request: pb.ScoreRequest | pb.FilterRequest, document: Document) -> None:
    # In place: a message given to another one's constructor is copied, images and all.
    for key, image in document.get("images", {}).items():
        _fill_source(request.images[key], image)
    for entry in document["items"]:
        item = request.items.add(id=entry.get("id"), text=entry.get("text"))
        image = entry.get("image")
        if isinstance(image, Image):
            _fill_source(item.image, image)
        elif image is not None:
            item.image_key = image


def _fill_source(source: pb.ImageSource, image: Image) -> None:
    if image.content is None:
        source.url = image.address or ""
    elif image.shape is None:
        source.data = image.content
    else:
        source.raw.data = image.content
        source.raw.height, source.raw.width = image.shape


def _plain(document: Document) -> dict[str, Any]:
    """Entries that are fields as they stand."""
    return {key: value for key, value in document.items() if key not in {"image", "images", "encoding"}}


def _head(reply: pb.ScoreReply | pb.FilterReply | pb.RankReply | pb.EmbedReply) -> Document:
    timing = reply.timing_ms
    stage_seconds = {"decode": timing.decode, "queue": timing.queue, "compute": timing.compute, "total": timing.total}
    return {"request_id": reply.request_id, "timing_ms": stage_seconds}


def _scored(result: pb.ItemResult) -> Document:
    if result.HasField("error"):
        return {"id": result.id, "status": "error", "error": problem_document(result.error)}
    return {"id": result.id, "status": "ok", "scores": _scores(result.scores)}


def _judged(result: pb.ItemVerdict) -> Document:
    if result.HasField("error"):
        return {"id": result.id, "status": "error", "error": problem_document(result.error)}
    return {
        "id": result.id,
        "status": "ok",
        "verdict": _VERDICTS.get(result.verdict),
        "failed": list(result.failed),
        "reasons": dict(result.reasons),
        "scores": _scores(result.scores),
    }


def _scores(scores: Mapping[str, pb.ScoreValue]) -> Document:
    return {scorer: _score(scores[scorer]) for scorer in sorted(scores)}


def _score(score: pb.ScoreValue) -> Document:
    if score.HasField("error"):
        return {"error": problem_document(score.error)}
    document: Document = json_format.MessageToDict(score.details) if score.HasField("details") else {}
    document["value"] = score.value
    document["truncated"] = score.truncated
    if score.HasField("cosine"):
        document["cosine"] = score.cosine
    if score.words:
        document["words"] = [_word(word) for word in score.words]
    return document


def _word(word: pb.Word) -> Document:
    return {
        "text": word.text,
        "start": word.start,
        "end": word.end,
        "attribution": word.attribution,
        "misaligned": word.misaligned,
    }


def _method(name: str) -> str:
    return f"/{SCORING_SERVICE}/{name}"


STREAM_PATH = _method("ScoreStream")
RPCS: Mapping[type[Ask[Any]], Rpc] = {
    asks.Score: Rpc(_method("Score"), pb.ScoreReply, score_message, _score_document),
    asks.Filter: Rpc(_method("Filter"), pb.FilterReply, _filter_message, _filter_document),
    asks.Rank: Rpc(_method("Rank"), pb.RankReply, _rank_message, _rank_document),
    asks.Embed: Rpc(_method("Embed"), pb.EmbedReply, _embed_message, _embed_document),
    asks.ListScorers: Rpc(
        _method("ListScorers"), pb.ListScorersReply, lambda _: pb.ListScorersRequest(), _list_document
    ),
    asks.ListModels: Rpc(_method("ListModels"), pb.ListModelsReply, lambda _: pb.ListModelsRequest(), _list_document),
    # The health check's messages hold one field each, and these hold the same one: no need of another package.
    asks.Ready: Rpc(
        "/grpc.health.v1.Health/Check", wrappers_pb2.Int32Value, lambda _: empty_pb2.Empty(), _ready_document
    ),
}
