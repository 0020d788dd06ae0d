"""Long runs of batches over one call."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator

import grpc
import pytest

from plumbline_serve.edge.grpc.calls import answer_each
from plumbline_serve.edge.grpc.servicer import MAX_CORRELATION_CHARS
from plumbline_wire.v1 import scoring_pb2 as pb

IMAGE = pb.ImageSource(data=b"hallo")
WAIT_S = 30.0


def batch(name: str, text: str = "hi") -> pb.ScoreStreamRequest:
    request = pb.ScoreRequest(items=[pb.Item(image=IMAGE, text=text)])
    return pb.ScoreStreamRequest(correlation_id=name, request=request)


def test_every_batch_is_answered_under_its_own_name(edge) -> None:
    names = [str(i) for i in range(100)]
    replies = list(edge.rpc.ScoreStream(batch(name) for name in names))
    assert sorted(reply.correlation_id for reply in replies) == sorted(names)
    assert {reply.reply.results[0].scores["sum"].value for reply in replies} == {176.0}
    edge.notebook.wait_for(("plumbline.v1.Scoring/ScoreStream", "grpc", "OK"))


def test_a_batch_that_fails_gets_an_error_and_the_stream_goes_on(edge) -> None:
    sent = [batch("a"), batch("b", "raise overloaded"), batch("c", "crash"), pb.ScoreStreamRequest(correlation_id="d")]
    sent[3].request.timeout_ms = -1
    replies = {reply.correlation_id: reply for reply in edge.rpc.ScoreStream(iter([*sent, batch("e")]))}
    codes = {name: reply.error.code for name, reply in replies.items()}
    resource_exhausted, internal, invalid = 8, 13, 3
    assert codes == {"a": 0, "b": resource_exhausted, "c": internal, "d": invalid, "e": 0}
    assert replies["e"].WhichOneof("result") == "reply"
    assert sorted(edge.notebook.rejections) == ["invalid_field", "overloaded"]


def test_replies_overtake_each_other(edge) -> None:
    sent: queue.SimpleQueue[pb.ScoreStreamRequest | None] = queue.SimpleQueue()
    call = edge.rpc.ScoreStream(iter(sent.get, None))
    sent.put(batch("slow", "hang"))
    assert edge.service.hanging.acquire(timeout=WAIT_S)
    sent.put(batch("fast"))
    assert next(call).correlation_id == "fast"
    sent.put(batch("slow"))
    duplicate = next(call)
    assert (duplicate.correlation_id, duplicate.error.message) == (
        "slow",
        "The batch's correlation_id is that of another batch under way.",
    )
    call.cancel()
    sent.put(None)
    assert edge.service.cancelled.acquire(timeout=WAIT_S)
    edge.notebook.wait_for(("plumbline.v1.Scoring/ScoreStream", "grpc", "CANCELLED"))


def test_a_name_may_be_used_again_once_its_batch_is_answered(edge) -> None:
    answered = threading.Event()

    def sent():
        yield batch("a")
        assert answered.wait(WAIT_S)
        yield batch("a")

    call = edge.rpc.ScoreStream(sent())
    first = next(call)
    answered.set()
    assert [first.WhichOneof("result"), next(call).WhichOneof("result")] == ["reply", "reply"]


def test_a_name_that_is_too_long_is_refused(edge) -> None:
    (reply,) = edge.rpc.ScoreStream(iter([batch("x" * (MAX_CORRELATION_CHARS + 1))]))
    assert "correlation_id must have at most 128 characters" in reply.error.message


def test_an_empty_stream_ends_well(edge) -> None:
    assert list(edge.rpc.ScoreStream(iter([]))) == []


def test_a_stream_ends_at_the_callers_deadline(edge) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(edge.rpc.ScoreStream(iter([batch("a", "hang")]), timeout=1.0))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert edge.service.hanging.acquire(timeout=WAIT_S)
    assert edge.service.cancelled.acquire(timeout=WAIT_S)


class Questions:
    """Numbers from 0, and how many were read."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.num_read = 0

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        if self.num_read == self.total:
            raise StopAsyncIteration
        self.num_read += 1
        return self.num_read - 1


async def test_no_more_questions_are_read_than_may_be_under_way() -> None:
    gate, questions, begun = asyncio.Event(), Questions(100), []

    async def answer(question: int) -> int:
        begun.append(question)
        await gate.wait()
        return question

    async def collect() -> list[int]:
        return [each async for each in answer_each(questions, answer, most=4)]

    collecting = asyncio.ensure_future(collect())
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(begun) == 4
    assert questions.num_read == 4
    gate.set()
    assert sorted(await collecting) == list(range(100))


async def test_an_error_in_a_question_ends_the_stream_and_what_is_under_way() -> None:
    cancelled = []

    async def questions() -> AsyncIterator[int]:
        yield 1
        for _ in range(10):
            await asyncio.sleep(0)
        raise ConnectionError

    async def answer(question: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(question)
        return question

    with pytest.raises(ConnectionError):
        async for _ in answer_each(questions(), answer, most=4):
            pass
    assert cancelled == [1]
