"""The Open Inference Protocol without its wires: a model for each scorer, tensors in, scores out.

Model `clipscore` takes `IMAGE` (encoded files) and `TEXT`, both BYTES of shape `[N]` or `[N, 1]`, and gives `SCORE`,
FP32 `[N, 1]`, and `ERROR`, BYTES `[N, 1]`. An item that failed has NaN for its score and a sentence for its error; that
of all others is empty, and they are scored.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from plumbline_models.core.errors import PlumblineError, RouteNotFoundError, TooManyItemsError
from plumbline_serve.edge.compat.core import ValueOrError, field_fault, image_of, scores_by, value_of
from plumbline_serve.edge.problems import problem
from plumbline_serve.messages import EncodedImage, ImageSource, Item, ScorerEntry, ScoreReply, ScoreRequest
from plumbline_serve.requests.service_protocol import Service
from plumbline_serve.scheduling.request_context import Priority

Element: TypeAlias = bytes | str
VERSION: Final = "1"
"""Of every model: another checkpoint is another service."""
PLATFORM: Final = "plumbline"
EXTENSIONS: Final = ("binary_tensor_data",)
IMAGE, TEXT, SCORE, ERROR = "IMAGE", "TEXT", "SCORE", "ERROR"
OUTPUTS: Final = (SCORE, ERROR)
DATATYPES: Final[Mapping[str, str]] = {IMAGE: "BYTES", TEXT: "BYTES", SCORE: "FP32", ERROR: "BYTES"}
LENGTH_BYTES: Final = 4
_GIVEN = frozenset({"image", "text"})
_PRIORITIES: Final[tuple[Priority, ...]] = ("normal", "interactive", "normal")
"""By the parameter `priority`, of which 0 is the default and 1 the most urgent; all larger ones are `batch`."""
_SHARED_MEMORY: Final = "shared_memory_"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input, its elements row by row."""

    name: str
    datatype: str
    shape: Sequence[int]
    elements: Sequence[Element]


@dataclass(frozen=True, slots=True)
class Inference:
    """One request to a model."""

    model: str
    version: str
    id: str
    tensors: Sequence[Tensor]
    outputs: Sequence[str] = OUTPUTS
    """Those that are asked for, in order."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model gives."""

    inference: Inference
    values: Sequence[ValueOrError]

    @property
    def scores(self) -> Sequence[float]:
        """As float32 has them; NaN where an item failed."""
        return [math.nan if isinstance(each, PlumblineError) else float(np.float32(each)) for each in self.values]

    @property
    def errors(self) -> Sequence[str]:
        """Code and sentence; empty where there is a score."""
        return [_sentence(each) if isinstance(each, PlumblineError) else "" for each in self.values]

    def packed(self, output: str) -> bytes:
        """An output as the binary extension writes it.

        Args:
            output: One of `OUTPUTS`.
        """
        if output == SCORE:
            return np.asarray(self.scores, "<f4").tobytes()
        return pack([each.encode() for each in self.errors])


def _sentence(error: PlumblineError) -> str:
    return f"{error.code}: {problem(error)['detail']}"


async def model_of(service: Service, name: str, version: str) -> ScorerEntry:
    """The scorer behind a model.

    Args:
        service: What scores.
        name: Of the model.
        version: Empty: any.

    Raises:
        RouteNotFoundError: There is none.
    """
    models = {each.id: each for each in await service.scorers() if scores_by(each, _GIVEN)}
    if name not in models or version not in ("", VERSION):
        known = ", ".join(models) or "none"
        raise RouteNotFoundError(f"There is no model {name[:64]!r} of that version here; loaded: {known}.")
    return models[name]


def inputs_of(model: ScorerEntry) -> list[str]:
    """The names of a model's inputs."""
    return [name for name, need in ((IMAGE, "image"), (TEXT, "text")) if need in model.needs]


def score_request(inference: Inference, model: ScorerEntry) -> ScoreRequest:
    """The message of a request.

    Args:
        inference: The request.
        model: Its model.

    Raises:
        InvalidFieldError: The tensors are not those of the model, or do not fit each other.
    """
    wanted, given = inputs_of(model), {each.name: each for each in inference.tensors}
    if sorted(each.name for each in inference.tensors) != sorted(wanted):
        raise field_fault("/inputs", f"must be {' and '.join(wanted)}, each once")
    if unknown := [name for name in inference.outputs if name not in OUTPUTS]:
        raise field_fault("/outputs", f"must be of {' and '.join(OUTPUTS)}, and not {unknown[0][:64]!r}")
    columns = {name: _elements(given[name]) for name in wanted}
    if len({len(column) for column in columns.values()}) != 1:
        raise field_fault("/inputs", "must have as many images as texts")
    num = len(next(iter(columns.values())))
    images: Sequence[ImageSource | None] = [_image(each) for each in columns.get(IMAGE, ())] or [None] * num
    texts: Sequence[str | None] = [_text(each) for each in columns.get(TEXT, ())] or [None] * num
    return ScoreRequest(
        items=[Item(str(index), *pair) for index, pair in enumerate(zip(images, texts, strict=True))],
        scorers=[model.id],
        timeout_ms=_timeout_ms(inference.parameters),
        priority=_priority(inference.parameters),
        deterministic=_flag(inference.parameters, "deterministic"),
    )


def outcome_of(inference: Inference, reply: ScoreReply) -> Outcome:
    """What a model gives for a request.

    Args:
        inference: The request.
        reply: To its message.
    """
    return Outcome(inference, [value_of(result, inference.model) for result in reply.results])


def pack(elements: Sequence[bytes]) -> bytes:
    """Elements of BYTES, each behind its length."""
    return b"".join(len(each).to_bytes(LENGTH_BYTES, "little") + each for each in elements)


def unpack(content: bytes | memoryview, pointer: str, *, most: int) -> list[bytes]:
    """The elements of BYTES; see `pack`.

    Args:
        content: All of a tensor.
        pointer: To it.
        most: Elements that there may be.

    Raises:
        InvalidFieldError: A length leads beyond its end.
        TooManyItemsError: There are more.
    """
    elements: list[bytes] = []
    view, start = memoryview(content), 0
    while start < len(view):
        if len(elements) == most:
            raise TooManyItemsError(f"A tensor has more than the {most} elements allowed.")
        length = int.from_bytes(view[start : start + LENGTH_BYTES], "little")
        start += LENGTH_BYTES
        if start + length > len(view):
            raise field_fault(pointer, "must be elements that each follow their length, uint32 little-endian")
        elements.append(bytes(view[start : start + length]))
        start += length
    return elements


def check_parameters(parameters: Mapping[str, Any], pointer: str) -> None:
    """See that a tensor is in the request, and not in memory that client and server share.

    Args:
        parameters: The tensor's.
        pointer: To them.

    Raises:
        InvalidFieldError: It is not.
    """
    if any(name.startswith(_SHARED_MEMORY) for name in parameters):
        raise field_fault(pointer, "must not name shared memory, which is not read here")


def _elements(tensor: Tensor) -> Sequence[Element]:
    if tensor.datatype != DATATYPES[tensor.name]:
        raise field_fault("/inputs", f"must be BYTES: {tensor.name} is {tensor.datatype[:16]!r}")
    shape = tuple(tensor.shape)
    is_right = len(shape) in (1, 2) and shape[1:] in ((), (1,)) and shape[0] == len(tensor.elements)
    if not is_right:
        raise field_fault("/inputs", f"must have shape [N] or [N, 1] and N elements: {tensor.name} has other")
    return tensor.elements


def _image(element: Element) -> ImageSource:
    return EncodedImage(element) if isinstance(element, bytes) else image_of(element)


def _text(element: Element) -> str:
    if isinstance(element, str):
        return element
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise field_fault("/inputs", "must be UTF-8 in TEXT") from error


def _timeout_ms(parameters: Mapping[str, Any]) -> float | None:
    """The parameter `timeout` is in microseconds; 0 is none."""
    timeout = _whole(parameters, "timeout")
    return timeout / 1000 if timeout else None


def _priority(parameters: Mapping[str, Any]) -> Priority:
    priority = _whole(parameters, "priority")
    return _PRIORITIES[priority] if priority < len(_PRIORITIES) else "batch"


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise field_fault(f"/parameters/{name}", "must be true or false")
    return value


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:  # noqa: PLR2004 - no 64-bit number has more
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise field_fault(f"/parameters/{name}", "must be a whole number of at least 0")
    return value
