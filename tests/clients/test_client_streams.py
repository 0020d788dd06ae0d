import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from plumbline_client import (
    AsyncGrpcClient,
    Batch,
    CapacityError,
    DeadlineError,
    GrpcClient,
    Image,
    Item,
    ProblemError,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_wire.v1 import scoring_pb2 as pb

BUSY = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="The queue is full.")
BUSY.details.add().Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", metadata={"status": "429"}))


def batches(count: int) -> list[Batch]:
    return [Batch([Item(Image.data(b"%d" % index), f"text {index}")]) for index in range(count)]


def echo(message: pb.ScoreStreamRequest) -> pb.ScoreStreamReply:
    """Answer with the first item's text for an id, so that a reply can be matched to what was asked."""
    result = pb.ItemResult(id=message.request.items[0].text)
    return pb.ScoreStreamReply(correlation_id=message.correlation_id, reply=pb.ScoreReply(results=[result]))


async def last_first(requests, context) -> AsyncIterator[pb.ScoreStreamReply]:
    """Wait for all requests, then answer the last one first."""
    for message in reversed([message async for message in requests]):
        yield echo(message)


async def in_turn(requests, context) -> AsyncIterator[pb.ScoreStreamReply]:
    async for message in requests:
        yield echo(message)


@pytest.fixture
def client(grpc_server) -> Iterator[GrpcClient]:
    with GrpcClient(grpc_server.target, api_key="hush") as client:
        yield client


def test_replies_come_in_any_order_and_keep_their_ids(grpc_server, client) -> None:
    grpc_server.stream = last_first
    replies = list(client.score_stream(batches(5), request_id="mine"))
    assert [reply.correlation_id for reply in replies] == ["4", "3", "2", "1", "0"]
    assert [reply.unwrap().results[0].id for reply in replies] == [f"text {index}" for index in (4, 3, 2, 1, 0)]
    (metadata,) = grpc_server.metadata
    assert metadata["x-request-id"] == "mine"
    assert metadata["authorization"] == "Bearer hush"


async def test_replies_come_in_any_order_with_asyncio(grpc_server) -> None:
    grpc_server.stream = last_first

    async def source() -> AsyncIterator[Batch]:
        for batch in batches(3):
            await asyncio.sleep(0)
            yield batch

    async with AsyncGrpcClient(grpc_server.target) as client:
        for given in (batches(3), source()):
            replies = [reply async for reply in client.score_stream(given)]
            assert [reply.correlation_id for reply in replies] == ["2", "1", "0"]
            assert [reply.unwrap().results[0].id for reply in replies] == ["text 2", "text 1", "text 0"]


def test_a_batch_arrives_as_it_was_given(grpc_server, client) -> None:
    arrived = []

    async def stream(requests, context):
        async for message in requests:
            arrived.append(message)
            yield echo(message)

    grpc_server.stream = stream
    first = Batch(
        [Item(text="a")], scorers=["x"], correlation_id="mine", timeout_ms=5, priority="batch", deterministic=True
    )
    assert [reply.correlation_id for reply in client.score_stream([first, *batches(1)])] == ["mine", "1"]
    assert arrived[0].request == pb.ScoreRequest(
        scorers=["x"], items=[pb.Item(text="a")], timeout_ms=5, priority=pb.PRIORITY_BATCH, deterministic=True
    )
    assert arrived[1].request.timeout_ms == 30_000
    assert arrived[1].request.items[0].image.data == b"0"


def test_a_batch_that_fails_does_not_end_the_stream(grpc_server, client) -> None:
    async def stream(requests, context):
        async for message in requests:
            if message.correlation_id == "0":
                yield pb.ScoreStreamReply(correlation_id="0", error=BUSY)
            else:
                yield echo(message)

    grpc_server.stream = stream
    failed, scored = client.score_stream(batches(2))
    assert isinstance(failed.error, CapacityError)
    assert failed.error.code == "overloaded"
    with pytest.raises(CapacityError):
        failed.unwrap()
    assert scored.unwrap().results[0].id == "text 1"


def test_a_reply_that_holds_nothing_is_said_to(grpc_server, client) -> None:
    async def stream(requests, context):
        async for message in requests:
            yield pb.ScoreStreamReply(correlation_id=message.correlation_id)

    grpc_server.stream = stream
    (reply,) = client.score_stream(batches(1))
    with pytest.raises(UnexpectedReplyError):
        reply.unwrap()


def test_no_more_batches_are_under_way_than_allowed(grpc_server, client) -> None:
    taken: list[Any] = []
    most: list[int] = []

    async def stream(requests, context):
        num_answered = 0
        async for message in requests:
            most.append(len(taken) - num_answered)
            num_answered += 1
            yield echo(message)

    def source() -> Iterator[Batch]:
        for batch in batches(20):
            taken.append(batch)
            yield batch

    grpc_server.stream = stream
    assert len(list(client.score_stream(source(), max_in_flight=3))) == 20
    assert max(most) <= 4  # three without a reply, and one that is read and waits for room


async def test_no_more_batches_are_under_way_than_allowed_with_asyncio(grpc_server) -> None:
    async def stream(requests, context):
        pending = []
        async for message in requests:
            pending.append(message)
            if len(pending) == 3:  # a fourth would never come
                for each in pending:
                    yield echo(each)
                pending.clear()

    grpc_server.stream = stream
    async with AsyncGrpcClient(grpc_server.target) as client:
        replies = [reply async for reply in client.score_stream(batches(9), max_in_flight=3)]
    assert len(replies) == 9


def test_a_source_that_breaks_is_raised_after_the_replies(grpc_server, client) -> None:
    def source() -> Iterator[Batch]:
        yield from batches(2)
        raise RuntimeError("the disk is gone")

    grpc_server.stream = in_turn
    seen: list[str] = []
    with pytest.raises(RuntimeError, match="disk"):
        seen.extend(reply.correlation_id for reply in client.score_stream(source()))
    assert seen == ["0", "1"]


async def test_a_source_that_breaks_is_raised_with_asyncio(grpc_server) -> None:
    async def source() -> AsyncIterator[Batch]:
        yield batches(1)[0]
        raise RuntimeError("the disk is gone")

    grpc_server.stream = in_turn
    async with AsyncGrpcClient(grpc_server.target) as client:
        stream = client.score_stream(source())
        assert (await anext(stream)).correlation_id == "0"
        with pytest.raises(RuntimeError, match="disk"):
            await anext(stream)


def test_a_batch_that_cannot_be_written_is_raised(grpc_server, client) -> None:
    grpc_server.stream = in_turn
    replies = client.score_stream([*batches(1), Batch([Item(text="\ud800")])])
    assert next(replies).correlation_id == "0"
    with pytest.raises(UsageError, match="Batch 1"):
        next(replies)


def test_a_stream_that_breaks_is_an_error(grpc_server, client) -> None:
    async def stream(requests, context):
        async for message in requests:
            yield echo(message)
            await context.abort(grpc.StatusCode.INTERNAL, "Broken.")

    grpc_server.stream = stream
    replies = client.score_stream(batches(3))
    assert next(replies).correlation_id == "0"
    with pytest.raises(ProblemError, match="Broken"):
        next(replies)


def test_a_reader_that_leaves_ends_the_call(grpc_server, client) -> None:
    is_over = threading.Event()

    async def stream(requests, context):
        try:
            async for message in requests:
                yield echo(message)
            await asyncio.Event().wait()
        finally:
            is_over.set()

    def endless() -> Iterator[Batch]:
        while True:
            yield from batches(1)

    grpc_server.stream = stream
    replies = client.score_stream(endless())
    next(replies)
    replies.close()
    assert is_over.wait(timeout=30)


def test_a_stream_may_have_a_deadline(grpc_server, client) -> None:
    async def stream(requests, context):
        await asyncio.Event().wait()
        yield

    grpc_server.stream = stream
    with pytest.raises(DeadlineError):
        list(client.score_stream(batches(1), timeout_ms=200))


@pytest.mark.parametrize("max_in_flight", [0, -1])
def test_room_for_no_batch_is_refused(client, max_in_flight: int) -> None:
    with pytest.raises(UsageError):
        list(client.score_stream(batches(1), max_in_flight=max_in_flight))
