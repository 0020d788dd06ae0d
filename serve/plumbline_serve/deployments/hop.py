"""What crosses between gateways and encoder replicas: how large it is, and in how many messages it goes."""

import pickle  # nosec B403  # between replicas, behind a token of Ray
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ray.serve._private.constants import RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Preprocessed
from plumbline_serve.batching import EncodedBatch, EncoderLoad
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import Caller, Priority, RequestContext
from plumbline_serve.tracing import TRACEPARENT

LIMIT_VARIABLE = "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"
USUAL_BYTES = 32 * 2**20
"""Of one message where Ray allows more: a larger one would hold up the event loops that write and read it."""
_ENVELOPE_BYTES = 64 * 2**10  # what Ray adds to a message, and the encoder's key, are far less


def message_limit() -> int:
    """Bytes of one gRPC message between replicas, as Ray read it in this process: 4 MiB where nothing is set."""
    return int(RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH)


def room_in(limit: int) -> int:
    """Bytes of inputs or encodings that a message within the limit has room for."""
    return max(1, limit - _ENVELOPE_BYTES)


@dataclass(frozen=True, slots=True)
class Loads:
    """How busy a replica is, as it says with everything that it sends."""

    replica: str
    encoders: Mapping[str, EncoderLoad]
    """By key."""


@dataclass(frozen=True, slots=True)
class Description:
    """What an encoder replica says of itself."""

    generation: Generation
    digest: str
    """Of its group, in that generation."""
    infos: Sequence[EncoderInfo]
    message_limit: int
    is_ready: bool
    """Whether its encoders do their work."""
    loads: Loads


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """A request's context as it crosses: clocks are not shared, so that the deadline is what is left until it."""

    remaining_s: float | None
    """None: there is no deadline."""
    caller: Caller
    priority: Priority
    is_deterministic: bool = False
    trace: str | None = None
    """The `traceparent` of the request; None: it is not traced."""

    @classmethod
    def of(cls, context: RequestContext) -> Self:
        """What is sent for a context, at this moment."""
        claims = context.caller, context.priority, context.is_deterministic
        return cls(context.deadline.remaining_s, *claims, TRACEPARENT.get())

    def context(self) -> RequestContext:
        """The context on this side, at this moment."""
        return RequestContext(Deadline.after_s(self.remaining_s), self.caller, self.priority, self.is_deterministic)


@dataclass(frozen=True, slots=True)
class Call:
    """What a call asks for."""

    key: str
    """Of the encoder."""
    digest: str
    """Of its group, as the caller knows it."""


@dataclass(frozen=True, slots=True)
class EncodingsTooLarge:
    """In the place of encodings for which the reply has no room."""

    encoding_bytes: int
    """Of one encoding on average."""


@dataclass(frozen=True, slots=True)
class OtherGeneration:
    """In the place of encodings that this replica does not compute."""

    generation: Generation
    """Its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call, and how busy the replica is after it."""

    result: EncodedBatch | EncodingsTooLarge | OtherGeneration | PlumblineError
    loads: Loads


@dataclass(frozen=True, slots=True)
class Part:
    """Inputs that go in one message."""

    inputs: Sequence[Preprocessed]
    num_bytes: int


def num_bytes(objects: Iterable[Any]) -> int:
    """Bytes of the objects in one message; what several of them share counts once, as it crosses once."""
    meter = _Meter()
    return sum(meter.add(each) for each in objects)


def cut(inputs: Sequence[Preprocessed], *, max_bytes: int, max_items: int) -> Iterator[Part]:
    """Cut inputs into as few messages as their order allows; an input that is larger goes alone.

    Args:
        inputs: For one encoder.
        max_bytes: Of one message.
        max_items: Inputs of one message.
    """
    meter, part, size = _Meter(), list[Preprocessed](), 0
    for each in inputs:
        added = meter.add(each)
        if part and (size + added > max_bytes or len(part) >= max_items):
            yield Part(part, size)
            meter, part, size = _Meter(), [], 0
            added = meter.add(each)  # what it shares with the part before has to be sent again
        part.append(each)
        size += added
    if part:
        yield Part(part, size)


class _Meter:
    """Counts what pickling writes, without writing: arrays are not copied, and repeated objects are named."""

    def __init__(self) -> None:
        self._num_bytes = 0
        self._pickler = pickle.Pickler(self, pickle.HIGHEST_PROTOCOL, buffer_callback=self._hold)

    def add(self, each: Any) -> int:
        before = self._num_bytes
        self._pickler.dump(each)
        return self._num_bytes - before

    def write(self, data: bytes) -> int:
        self._num_bytes += len(data)
        return len(data)

    def _hold(self, buffer: pickle.PickleBuffer) -> None:
        self._num_bytes += buffer.raw().nbytes
