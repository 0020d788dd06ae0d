"""Long runs of batches over one gRPC call: their messages, and how many are under way."""

import threading
from collections.abc import Iterable, Iterator

from plumbline_client.batches import BatchLike, BatchReply, StreamedRequest
from plumbline_client.documents import claims_document
from plumbline_client.errors import UsageError
from plumbline_client.grpc_problems import status_error
from plumbline_client.grpc_wire import read_score, write_message
from plumbline_client.options import Profile
from plumbline_wire.v1 import scoring_pb2 as pb


def batch_message(given: BatchLike, index: int, profile: Profile) -> pb.ScoreStreamRequest:
    """Write one batch.

    Args:
        given: What to score.
        index: Its place in the run, from 0.
        profile: The client's, for what batches do not say themselves.

    Raises:
        UsageError: A value does not fit its field.
    """
    batch = StreamedRequest.of(given, index, profile)
    claims = claims_document(batch.timeout_ms, batch.priority, deterministic=batch.deterministic)
    document = batch.request.document() | claims
    try:
        request = write_message(pb.ScoreRequest, document)
        return pb.ScoreStreamRequest(correlation_id=batch.correlation_id, request=request)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Batch {batch.correlation_id} cannot be written as a message: {error}.") from error


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

    def __init__(self, batches: Iterable[BatchLike], max_in_flight: int, profile: Profile) -> None:
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
