"""Long runs of batches over one gRPC call: what goes in, what comes out, and how many are under way."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plumbline_client.errors import PlumblineClientError, UnexpectedReplyError, UsageError
from plumbline_client.grpc_problems import status_error
from plumbline_client.grpc_wire import read_score, write_message
from plumbline_client.items import Combinations, ItemLike
from plumbline_client.options import Priority, Profile, check_priority, check_timeout_ms
from plumbline_client.replies import ScoreReply
from plumbline_client.requests import ScoreRequest, claims_document
from plumbline_wire.v1 import scoring_pb2 as pb


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


def batch_message(batch: Batch, index: int, profile: Profile) -> pb.ScoreStreamRequest:
    """Write one batch.

    Args:
        batch: What to score.
        index: Its place in the run, from 0.
        profile: The client's, for what batches do not say themselves.

    Raises:
        UsageError: A value does not fit its field.
    """
    if not isinstance(batch, Batch):
        raise UsageError(f"A stream takes batches: {type(batch).__name__} is no Batch.")
    timeout_ms = check_timeout_ms(profile.timeout_ms if batch.timeout_ms is None else batch.timeout_ms)
    claims = claims_document(timeout_ms, check_priority(batch.priority or profile.priority))
    document = ScoreRequest(batch.items, batch.scorers, batch.combine).document() | claims
    named = str(index) if batch.correlation_id is None else batch.correlation_id
    try:
        request = write_message(pb.ScoreRequest, document)
        return pb.ScoreStreamRequest(correlation_id=named, request=request)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Batch {named} cannot be written as a message: {error}.") from error


def batch_reply(message: pb.ScoreStreamReply) -> BatchReply:
    """Read the reply to one batch.

    Raises:
        UnexpectedReplyError: It breaks the contract.
    """
    named = message.correlation_id
    if message.HasField("error"):
        return BatchReply(named, error=status_error(message.error))
    if not message.HasField("reply"):
        return BatchReply(named)
    return BatchReply(named, response=read_score(message.reply))


class Feed:
    """Batches on their way into a blocking call, at most so many without a reply.

    gRPC iterates it on a thread of its own. When a batch cannot be had or written, the feed ends and `failure`
    says why, to be raised where the replies are read.
    """

    def __init__(self, batches: Iterable[Batch], max_in_flight: int, profile: Profile) -> None:
        self.failure: BaseException | None = None
        self._batches = batches
        self._profile = profile
        self._room = threading.Semaphore(max_in_flight)
        self._is_over = False

    def __iter__(self) -> Iterator[pb.ScoreStreamRequest]:
        try:
            for index, batch in enumerate(self._batches):
                self._room.acquire()
                if self._is_over:
                    return
                yield batch_message(batch, index, self._profile)
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises, it is raised to the caller
            self.failure = error

    def replied(self) -> None:
        """Let another batch go."""
        self._room.release()

    def end(self) -> None:
        """Let no further batch go."""
        self._is_over = True
        self._room.release()
