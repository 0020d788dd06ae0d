"""A request as any wire delivers it, and as understood: one way for REST and gRPC, so that both refuse alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from plumbline_serve.concurrency import Deadline
from plumbline_serve.edge import schemas
from plumbline_serve.edge.fields import read_document
from plumbline_serve.settings import Limits

B = TypeVar("B", bound=schemas.Request)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came over the wire: a document of plain values, and the bytes that its sources name."""

    document: Any
    parts: Mapping[str, bytes] | None = None
    """None where the wire has no parts."""


@dataclass(frozen=True, slots=True)
class ParsedRequest(Generic[B]):
    """A delivery that fits its schema."""

    body: B
    parts: Mapping[str, bytes] | None
    timeout_ms: float | None
    """What is left of the caller's patience; None: no end to it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the wire says that the caller waits, and since when, on the monotonic clock."""

    started_s: float
    timeout_ms: float | None = None

    def left_ms(self, timeout_ms: float | None) -> float | None:
        """What is left of the smaller of two timeouts: the wire's and the body's.

        Raises:
            DeadlineExceededError: Nothing.
        """
        timeouts = [each for each in (self.timeout_ms, timeout_ms) if each is not None]
        if not timeouts:
            return None
        deadline = Deadline(self.started_s + min(timeouts) / 1000)
        if deadline.has_passed:
            raise deadline.error("receive")
        return (deadline.remaining_s or 0.0) * 1000


def parse_request(delivery: Delivery, schema: type[B], limits: Limits, *, patience: Patience) -> ParsedRequest[B]:
    """Read a delivery as its schema.

    Raises:
        TooManyItemsError: It holds more items, images or texts than allowed.
        InvalidFieldError: It does not fit.
        DeadlineExceededError: It took longer to arrive than the caller waits.
    """
    body = read_document(delivery.document, schema, limits)
    return ParsedRequest(body, delivery.parts, patience.left_ms(body.timeout_ms))
