"""gRPC requests as deliveries: documents of the REST shape, with the images' bytes as parts that they name.

Read further as REST's are, so that a missing or wrong field is refused with the same words and the same pointer.
"""

from typing import Any, Literal, TypeAlias

from plumbline_serve.edge.parsing import Delivery
from plumbline_wire.v1 import scoring_pb2 as pb

Document: TypeAlias = dict[str, Any]
_BOUNDS: tuple[Literal["min", "max", "min_words"], ...] = ("min", "max", "min_words")
_Message: TypeAlias = pb.ScoreRequest | pb.FilterRequest | pb.RankRequest | pb.EmbedRequest | pb.Item


def score_delivery(request: pb.ScoreRequest) -> Delivery:
    """What `POST /v1/score` would have got."""
    parts: dict[str, bytes] = {}
    document = _items(request, parts)
    if request.scorers:
        document["scorers"] = list(request.scorers)
    return Delivery(document, parts)


def filter_delivery(request: pb.FilterRequest) -> Delivery:
    """What `POST /v1/filter` would have got."""
    parts: dict[str, bytes] = {}
    thresholds = [
        {"scorer": each.scorer} | {name: getattr(each, name) for name in _BOUNDS if each.HasField(name)}
        for each in request.policy.all
    ]
    return Delivery(_items(request, parts) | {"policy": {"all": thresholds}, "explain": request.explain}, parts)


def rank_delivery(request: pb.RankRequest) -> Delivery:
    """What `POST /v1/rank` would have got; proto3 has no empty lists, so that one side implies the other."""
    parts: dict[str, bytes] = {}
    document: Document = _given(request, "text", "scorer", "top_k", "timeout_ms")
    if request.images or (request.HasField("text") and not request.texts):
        document["images"] = [_source(each, parts) for each in request.images]
    if request.HasField("image"):
        document["image"] = _source(request.image, parts)
    if request.texts or (request.HasField("image") and not request.images):
        document["texts"] = list(request.texts)
    return Delivery(document, parts)


def embed_delivery(request: pb.EmbedRequest) -> Delivery:
    """What `POST /v1/embed` would have got."""
    parts: dict[str, bytes] = {}
    document: Document = _given(request, "scorer", "timeout_ms")
    if request.images:
        document["images"] = [_source(each, parts) for each in request.images]
    if request.texts:
        document["texts"] = list(request.texts)
    return Delivery(document, parts)


def _items(request: pb.ScoreRequest | pb.FilterRequest, parts: dict[str, bytes]) -> Document:
    return _given(request, "timeout_ms") | {
        "images": {key: _source(source, parts) for key, source in request.images.items()},
        "items": [_item(item, parts) for item in request.items],
    }


def _item(item: pb.Item, parts: dict[str, bytes]) -> Document:
    document = _given(item, "id", "text")
    reference = item.WhichOneof("image_ref")
    if reference == "image_key":
        document["image"] = item.image_key
    elif reference == "image":
        document["image"] = _source(item.image, parts)
    return document


def _source(source: pb.ImageSource, parts: dict[str, bytes]) -> Document:
    kind = source.WhichOneof("source")
    if kind is None:
        return {}
    if kind == "url":
        return {"url": source.url}
    name = str(len(parts))
    if kind == "data":
        parts[name] = source.data
        return {"part": name}
    parts[name] = source.raw.data
    return {"part": name, "raw": {"height": source.raw.height, "width": source.raw.width}}


def _given(message: _Message, *names: Any) -> Document:
    """The optional fields that are set; Any, for each message has names of its own."""
    return {name: getattr(message, name) for name in names if message.HasField(name)}
