"""Random inputs: images that are nearly right, and messages of any schema with whatever its fields may hold."""

import io
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from PIL import Image

from plumbline_wire.v1 import scoring_pb2 as pb
from tests.fuzz.set_inputs import make_set_sound

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SCORERS = ("clipscore", "fclipscore", "vqascore", "qualiclip")
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MAX_REPEATED = 3


@cache
def sound_images() -> tuple[bytes, ...]:
    """Two small files of each format that is read: of noise, and smooth."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    smooth = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None] * 7, (24, 32, 3))
    return tuple(_written(pixels, name) for name in FORMATS for pixels in (noise, np.ascontiguousarray(smooth)))


def _written(pixels: np.ndarray, name: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, name)
    return out.getvalue()


@st.composite
def mutated_images(draw: st.DrawFn) -> bytes:
    """A sound file with some of its bytes changed, left out, added or moved."""
    data = bytearray(draw(st.sampled_from(sound_images())))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("byte", "number", "cut", "leave out", "add", "repeat"))):
            case "byte" if data:
                data[at] = draw(st.integers(0, 255))
            case "number":
                size, order = draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from(("big", "little")))
                number = draw(st.sampled_from(_EXTREMES)) & (256**size - 1)
                data[at : at + size] = number.to_bytes(size, "big" if order == "big" else "little")
            case "cut":
                del data[at:]
            case "leave out":
                del data[at : at + draw(st.integers(1, 16))]
            case "add":
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


def image_bytes() -> st.SearchStrategy[bytes]:
    """Sound, nearly sound, or nothing of the kind."""
    return st.one_of(st.sampled_from(sound_images()), mutated_images(), st.binary(max_size=64))


def texts() -> st.SearchStrategy[str]:
    """What captions are made of, and what they are not; also too long ones."""
    words = st.lists(st.sampled_from(("a", "red", "circle", "two", "blue", "squares", ".", "ﬁ", "🙂")), max_size=8)
    return st.one_of(words.map(" ".join), st.text(max_size=40), st.text("ab ", min_size=190, max_size=210))


def names() -> st.SearchStrategy[str]:
    """Names of scorers, and others."""
    return st.one_of(st.sampled_from(SCORERS), st.text(max_size=6))


def numbers() -> st.SearchStrategy[float]:
    """Doubles of every kind; usual timeouts among them."""
    return st.one_of(st.sampled_from((0.0, 1.0, 50.0, 60_000.0)), st.floats())


_SCALARS: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: lambda: st.one_of(names(), texts()),
    FieldDescriptor.TYPE_BYTES: image_bytes,
    FieldDescriptor.TYPE_BOOL: st.booleans,
    FieldDescriptor.TYPE_DOUBLE: numbers,
    FieldDescriptor.TYPE_UINT64: lambda: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT32: lambda: st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1)),
    FieldDescriptor.TYPE_ENUM: lambda: st.one_of(st.integers(0, 4), st.integers(-(2**31), 2**31 - 1)),
}


@st.composite
def messages(draw: st.DrawFn, kind: type[Message]) -> Any:
    """A message of the schema with any of its fields, each with anything that its type may hold."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if draw(st.booleans()):
            _fill(draw, message, field)
    return message


@st.composite
def requests(draw: st.DrawFn, kind: type[Message]) -> Any:
    """A message, of which most are such that the service has to read their images and texts."""
    message = draw(messages(kind))
    if draw(st.integers(0, 7)):
        _make_sound(message)
    return message


def _make_sound(request: Any) -> None:
    """Leave out, or put right, what refuses a request as a whole."""
    if not 1000 <= request.timeout_ms < math.inf:
        request.ClearField("timeout_ms")
    if request.priority not in pb.Priority.values():
        request.ClearField("priority")
    for name, combination in list(getattr(request, "combine", {}).items()):
        if not name or isinstance(request, pb.FilterRequest) or name in SCORERS:
            del request.combine[name]
        else:
            _make_combination_sound(combination)
    match request:
        case pb.RankRequest():
            _make_ranking_sound(request)
        case pb.SelectRequest():
            _make_selection_sound(request)
        case pb.EmbedRequest():
            _make_embedding_sound(request)
        case pb.DiversityRequest() | pb.DistanceRequest() | pb.AuditRequest() | pb.ReferenceSetRequest():
            make_set_sound(request)
        case _:
            _make_items_sound(request)
    for source in _sources_of(request):
        _make_source_sound(source)


def _make_items_sound(request: Any) -> None:
    if not request.items:
        request.items.add(text="a red circle", image_key="a")
    for item in request.items:
        if item.frames:
            item.ClearField("image_ref")
        if item.pool not in pb.Pool.values():
            item.ClearField("pool")
    if isinstance(request, pb.FilterRequest):
        _make_policy_sound(request.policy)
        return
    known = [name for name in request.scorers if name in SCORERS]
    request.ClearField("scorers")
    request.scorers.extend(known)


def _make_combination_sound(combination: Any) -> None:
    combination.method = combination.method if combination.method in pb.CombinationMethod.values()[1:] else 1
    del combination.terms[len(SCORERS) :]
    if not combination.terms:
        combination.terms.add()
    for term, scorer in zip(combination.terms, SCORERS, strict=False):
        term.scorer, term.min, term.max = scorer, 0.0, 1.0
        if not 0 < term.weight < 1e6:
            term.ClearField("weight")


def _make_ranking_sound(request: pb.RankRequest) -> None:
    request.ClearField("scorer")
    if not request.top_k:
        request.ClearField("top_k")
    if request.images:
        request.ClearField("image")
        request.ClearField("texts")
        request.text += "a"
    else:
        request.ClearField("text")
        request.texts.append("a")
        request.image.SetInParent()


def _make_selection_sound(request: pb.SelectRequest) -> None:
    for name in ("scorer", "correlation", "correlation_interval"):
        request.ClearField(name)
    if not 0 < request.temperature < 1e6:
        request.ClearField("temperature")
    if request.seed >= 2**53:
        request.ClearField("seed")
    request.text += "a"


def _make_embedding_sound(request: pb.EmbedRequest) -> None:
    request.ClearField("scorer")
    if request.images:
        request.ClearField("texts")
    elif not request.texts:
        request.texts.append("a")


def _sources_of(request: Any) -> list[pb.ImageSource]:
    items = getattr(request, "items", ())
    sources = [item.image for item in items if item.HasField("image")]
    sources += [item.reference_image for item in items if item.HasField("reference_image")]
    sources += [frame.image for item in items for frame in item.frames if frame.WhichOneof("frame_ref") != "key"]
    images = getattr(request, "images", ())
    sources += images.values() if hasattr(images, "values") else images
    return [*sources, request.image] if isinstance(request, pb.RankRequest) and request.HasField("image") else sources


def _make_policy_sound(policy: Any) -> None:
    if not policy.all:
        policy.all.add()
    for index, threshold in enumerate(policy.all):
        threshold.scorer = SCORERS[index % len(SCORERS)]
        threshold.ClearField("min_words")
        threshold.ClearField("max")
        threshold.ClearField("calibration")
        if not math.isfinite(threshold.min):
            threshold.ClearField("min")
        threshold.min += 0.0


def _make_source_sound(source: Any) -> None:
    match source.WhichOneof("source"):
        case "raw":
            source.raw.height, source.raw.width, source.raw.channels = 4, 4, 3
            source.raw.data = source.raw.data[:48].ljust(48, b"\0")
        case None:
            source.data = sound_images()[0]


def _fill(draw: st.DrawFn, message: Any, field: Any) -> None:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        for _ in range(draw(st.integers(0, _MAX_REPEATED))):
            key = draw(st.sampled_from(("a", "b", "clipscore", "")))
            getattr(message, field.name)[key].CopyFrom(draw(messages(_class_of(entry.fields_by_name["value"]))))
    elif field.is_repeated:
        for _ in range(draw(st.integers(0, _MAX_REPEATED))):
            value = draw(_value(field))
            repeated = getattr(message, field.name)
            repeated.append(value)
    elif entry is not None:
        getattr(message, field.name).CopyFrom(draw(_value(field)))
    else:
        setattr(message, field.name, draw(_value(field)))


def _value(field: Any) -> st.SearchStrategy[Any]:
    return messages(_class_of(field)) if field.message_type is not None else _SCALARS[field.type]()


def _class_of(field: Any) -> type[Message]:
    kind: type[Message] = getattr(pb, field.message_type.name)
    return kind
