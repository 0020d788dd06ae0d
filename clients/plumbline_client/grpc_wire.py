"""Requests written as protobuf messages, and protobuf replies read as REST documents; pure functions of messages.

Fields go by their names; those that gRPC has in another form than REST stand here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import empty_pb2, json_format, struct_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from pydantic import BaseModel, ValidationError

from plumbline_client import grpc_sets, requests
from plumbline_client.calls import Call
from plumbline_client.documents import Document
from plumbline_client.errors import UnexpectedReplyError, UsageError
from plumbline_client.grpc_problems import problem_document
from plumbline_client.images import RGB, Image
from plumbline_client.replies import ScoreReply
from plumbline_client.requests import Request
from plumbline_wire import SCORING_SERVICE
from plumbline_wire.v1 import scoring_pb2 as pb

T = TypeVar("T", bound=BaseModel)
M = TypeVar("M", bound=Message)
_ITEM_IMAGES = frozenset({"image", "reference_image"})  # a key or a source
_UNSAID = frozenset({"words", "truncated", "answers"})
_OF_ANSWERS = frozenset({"failed", "rates"})
"""Of a score: where they are empty the scorer says no such thing, for protobuf cannot leave them unset."""
_ENUMS = frozenset({"priority", "expect", "method", "pool", "compat"})  # words in JSON
_REST_ONLY = frozenset({"encoding"})  # gRPC carries vectors as bytes
_SERVING = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus


@dataclass(frozen=True, slots=True)
class Rpc:
    """How one kind of request travels."""

    path: str
    request: type[Message]
    reply: type[Message]


def encode(request: Request[Any], call: Call) -> Message:
    """Write a request.

    Args:
        request: What to send.
        call: Its name and time.

    Raises:
        UsageError: A value does not fit its field.
        DeadlineError: The call's time is over.
    """
    document = call.document(request) if request.method == "POST" else request.document()
    try:
        return write_message(RPCS[type(request)].request, document)
    except (TypeError, ValueError) as error:
        raise UsageError(f"The request cannot be written as a message: {error}.") from error


def decode(request: Request[T], reply: Message) -> T:
    """Read a reply.

    Args:
        request: What was sent.
        reply: What came back.

    Raises:
        UnexpectedReplyError: The reply breaks the contract.
    """
    return _validated(request.reply, _read_message(reply))


def read_score(reply: pb.ScoreReply) -> ScoreReply:
    """Read the reply to one batch of a stream.

    Raises:
        UnexpectedReplyError: The reply breaks the contract.
    """
    return _validated(ScoreReply, _read_message(reply))


def write_message(kind: type[M], document: Document) -> M:
    """Write a document, with `Image` objects where images stand.

    Args:
        kind: The message's class.
        document: The body that REST would carry.

    Raises:
        TypeError: A value does not fit its field.
        ValueError: A number does not.
    """
    message = kind()
    _fill(message, document)
    return message


def _validated(reply: type[T], document: Document) -> T:
    try:
        return reply.model_validate(document)
    except ValidationError as error:
        raise UnexpectedReplyError("The reply breaks the contract.") from error


def _fill(message: Any, document: Document) -> None:
    # In place: a message given to another one's constructor is copied, images and all.
    for name, value in document.items():
        if isinstance(message, pb.Item) and name in _ITEM_IMAGES and isinstance(value, str):
            setattr(message, f"{name}_key", value)
        elif isinstance(message, pb.Item) and name == "frames":
            _fill_frames(message, value)
        elif name in grpc_sets.WRITTEN:
            grpc_sets.WRITTEN[name](message, value)
        elif isinstance(value, Image):
            _fill_source(getattr(message, name), value)
        elif isinstance(value, list):
            _extend(getattr(message, name), value)
        elif isinstance(value, Mapping):
            _fill_map(getattr(message, name), value)
        elif name not in _REST_ONLY:
            setattr(message, name, _enum_number(message, name, value) if name in _ENUMS else value)


def _fill_frames(item: pb.Item, frames: list[str | Image]) -> None:
    for frame in frames:
        added = item.frames.add()
        if isinstance(frame, str):
            added.key = frame
        else:
            _fill_source(added.image, frame)


def _enum_number(message: Any, name: str, value: str) -> int:
    numbers = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_name
    return int(numbers[f"{name}_{value}".upper()].number)


def _extend(repeated: Any, values: list[Any]) -> None:
    for value in values:
        if isinstance(value, Image):
            _fill_source(repeated.add(), value)
        elif isinstance(value, dict):
            _fill(repeated.add(), value)
        else:
            repeated.append(value)


def _fill_map(target: Any, entries: Mapping[str, Any]) -> None:
    """Fill a message, or a map of images or messages by key."""
    if isinstance(target, Message):
        target.SetInParent()  # it is given, also where it is empty
        _fill(target, dict(entries))
        return
    for key, entry in entries.items():
        if isinstance(entry, Image):
            _fill_source(target[key], entry)
        else:
            _fill(target[key], entry)


def _fill_source(source: pb.ImageSource, image: Image) -> None:
    if image.content is None:
        source.url = image.address or ""
    elif image.shape is None:
        source.data = image.content
    else:
        source.raw.data = image.content
        source.raw.height, source.raw.width = image.shape
        if image.channels != RGB:  # else left out: older services do not know it
            source.raw.channels = image.channels


def _read_message(message: Message) -> Any:
    """Read the fields that are set, and those that cannot be unset."""
    document: Document = {}
    for field in message.DESCRIPTOR.fields:
        if not field.has_presence or message.HasField(field.name):
            document[field.name] = _read_field(field, getattr(message, field.name))
    reshape = _RESHAPED.get(type(message))
    return document if reshape is None else reshape(document)


def _read_field(field: Any, value: Any) -> Any:
    """Read a field; Any, for protobuf's implementations have descriptors of their own."""
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value) if value else None
        return known and known.name.removeprefix(f"{field.name.upper()}_").lower()
    if isinstance(value, Message | str | bytes | float | int):
        return _read_value(value)
    if hasattr(value, "keys"):
        return {key: _read_value(value[key]) for key in sorted(value)}
    return [_read_value(each) for each in value]


def _read_value(value: Any) -> Any:
    if isinstance(value, status_pb2.Status):
        return problem_document(value)
    if isinstance(value, struct_pb2.Struct):
        return json_format.MessageToDict(value)
    return _read_message(value) if isinstance(value, Message) else value


def _with_status(result: Document) -> Document:
    """Add REST's word for whether an item was taken up; one that could not be judged has no verdict."""
    if "error" in result:
        return {"id": result["id"], "status": "error", "error": result["error"]}
    return result | {"status": "ok"}


def _flat(score: Document) -> Document:
    """Put what else a scorer says beside its value, and nothing that it does not say; a failed one has no value."""
    if "error" in score:
        return {"error": score["error"]}
    details: Document = score.pop("details", {})
    unsaid = _UNSAID if score["answers"] else _UNSAID | _OF_ANSWERS
    return details | {name: value for name, value in score.items() if value or name not in unsaid}


def _renamed_vector(embedding: Document) -> Document:
    return {{"float32_le": "data"}.get(name, name): value for name, value in embedding.items()}


def _by_image(selection: Document) -> Document:
    """Put values and probabilities in lists of their own; null where there is none."""
    each = selection["values"]
    drawn = [value.get("probability") for value in each]
    chances = {"probabilities": drawn} if any(chance is not None for chance in drawn) else {}
    return selection | {"values": [value.get("value") for value in each]} | chances


def _readiness(health: Document) -> Document:
    return {"status": "ready" if health["value"] == _SERVING else "not_ready"}


def _method(name: str) -> str:
    return f"/{SCORING_SERVICE}/{name}"


_RESHAPED: Mapping[type[Message], Callable[[Document], Any]] = {
    **grpc_sets.READ,
    pb.ItemResult: _with_status,
    pb.ItemVerdict: _with_status,
    pb.ScoreValue: _flat,
    pb.Embedding: _renamed_vector,
    pb.SelectReply: _by_image,
    wrappers_pb2.Int32Value: _readiness,
}
"""Messages that REST has in another form."""
STREAM_PATH = _method("ScoreStream")
RPCS: Mapping[type[Request[Any]], Rpc] = {
    requests.ScoreRequest: Rpc(_method("Score"), pb.ScoreRequest, pb.ScoreReply),
    requests.FilterRequest: Rpc(_method("Filter"), pb.FilterRequest, pb.FilterReply),
    requests.RankRequest: Rpc(_method("Rank"), pb.RankRequest, pb.RankReply),
    requests.SelectRequest: Rpc(_method("Select"), pb.SelectRequest, pb.SelectReply),
    requests.EmbedRequest: Rpc(_method("Embed"), pb.EmbedRequest, pb.EmbedReply),
    **{kind: Rpc(_method(name), *types) for kind, (name, *types) in grpc_sets.RPCS.items()},
    requests.ListScorersRequest: Rpc(_method("ListScorers"), pb.ListScorersRequest, pb.ListScorersReply),
    requests.ListModelsRequest: Rpc(_method("ListModels"), pb.ListModelsRequest, pb.ListModelsReply),
    # The health check's messages hold one field each, and these hold the same one: no need of another package.
    requests.ReadinessRequest: Rpc("/grpc.health.v1.Health/Check", empty_pb2.Empty, wrappers_pb2.Int32Value),
}
