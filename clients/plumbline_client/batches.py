"""Long runs of batches: what goes in, and what comes out."""

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from plumbline_client.errors import PlumblineClientError, UnexpectedReplyError, UsageError
from plumbline_client.items import Combinations, ItemLike
from plumbline_client.options import Priority, Profile, check_deterministic, check_priority, check_timeout_ms
from plumbline_client.replies import ScoreReply
from plumbline_client.requests import ScoreRequest


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of a stream."""

    items: Iterable[ItemLike]
    scorers: Iterable[str] | None = None
    combine: Combinations | None = None
    correlation_id: str | None = None
    """Comes back in the reply; unique among the batches under way; None: the batch's index, as a string."""
    timeout_ms: float | None = None
    """From when the service received the batch; None: the client's."""
    priority: Priority | None = None
    """None: the client's."""
    deterministic: bool | None = None
    """None: the client's."""


@dataclass(frozen=True, slots=True)
class BatchReply:
    """The reply to one batch: a response, or an error in its place."""

    correlation_id: str
    response: ScoreReply | None = None
    error: PlumblineClientError | None = None

    def unwrap(self) -> ScoreReply:
        """Return the response.

        Raises:
            PlumblineClientError: The batch failed as a whole.
        """
        if self.error is not None:
            raise self.error
        if self.response is None:
            raise UnexpectedReplyError("The reply holds neither a response nor an error.")
        return self.response


BatchLike: TypeAlias = Batch | Iterable[ItemLike]
"""A batch, or a list of its items."""
B = TypeVar("B", bound=Iterable[BatchLike] | AsyncIterable[BatchLike])


@dataclass(frozen=True, slots=True)
class StreamedRequest:
    """One batch of a run, as it is sent."""

    correlation_id: str
    request: ScoreRequest
    timeout_ms: float | None
    priority: Priority
    deterministic: bool

    @classmethod
    def of(cls, given: BatchLike, index: int, profile: Profile) -> "StreamedRequest":
        """Read one batch.

        Args:
            given: What to score.
            index: Its place in the run, from 0.
            profile: The client's, for what batches do not say themselves.

        Raises:
            UsageError: It is none.
        """
        if not isinstance(given, Batch | Iterable) or isinstance(given, str | bytes):
            raise UsageError(f"A stream takes batches, or lists of items: one {type(given).__name__} is neither.")
        batch = given if isinstance(given, Batch) else Batch(given)
        return cls(
            str(index) if batch.correlation_id is None else batch.correlation_id,
            ScoreRequest(batch.items, batch.scorers, batch.combine),
            check_timeout_ms(profile.timeout_ms if batch.timeout_ms is None else batch.timeout_ms),
            check_priority(batch.priority or profile.priority),
            check_deterministic(profile.deterministic if batch.deterministic is None else batch.deterministic),
        )


def check_batches(batches: B) -> B:
    """The batches, if they can be gone through.

    Raises:
        UsageError: They cannot.
    """
    if not isinstance(batches, Iterable | AsyncIterable):
        raise UsageError(f"Batches come in a list or another iterable; one {type(batches).__name__} is none.")
    return batches


def check_max_in_flight(max_in_flight: int) -> int:
    """The number of batches without a reply, at most.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(max_in_flight, int) or max_in_flight < 1:
        raise UsageError(f"max_in_flight must be a whole number, at least 1; this is {max_in_flight!r}.")
    return max_in_flight
