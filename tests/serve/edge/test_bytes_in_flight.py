"""What unfinished uploads and requests under way hold is bounded for all of them together."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from plumbline_models.core.errors import CapacityError, RequestTooLargeError
from plumbline_serve.edge.observe import Unobserved
from plumbline_serve.memory import streams
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.settings import Limits, Settings
from plumbline_wire import STATUS_DETAILS_KEY
from plumbline_wire.v1 import scoring_pb2 as pb

WAIT_S = 30.0
MIB = 2**20
BUDGET = 4 * MIB
JSON = {"content-type": "application/json"}
EMBED = b'{"texts":["abc"]}'
PROMPT_S = 0.5


@pytest.fixture
def small(open_over):
    """Both edges, with room for 4 MiB."""
    return open_over(Settings(limits=Limits(max_request_bytes=2 * MIB, max_bytes_in_flight=BUDGET)))


def begin_upload(edge, num_bytes: int) -> socket.socket:
    """A caller that declares one byte more than it sends."""
    connection = socket.create_connection(edge.address, timeout=WAIT_S)
    lines = ["POST /v1/embed HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {num_bytes + 1}"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + b" " * num_bytes)
    return connection


def hold(edge, stack: ExitStack, num_bytes: int) -> None:
    """Have unfinished uploads hold so many bytes."""
    before = edge.notebook.num_bytes
    for _ in range(num_bytes // MIB):
        stack.enter_context(closing(begin_upload(edge, MIB)))
    edge.notebook.wait_until_in_flight(lambda held: held == before + num_bytes)


def test_uploads_above_the_budget_are_refused_until_others_end(small) -> None:
    with ExitStack() as stack:
        hold(small, stack, BUDGET)
        reply = small.http.post("/v1/embed", content=EMBED, headers=JSON)
        assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        assert small.notebook.num_bytes == BUDGET
    small.notebook.wait_until_in_flight(lambda held: held == 0)
    assert small.http.post("/v1/embed", content=EMBED, headers=JSON).status_code == 200


def test_a_form_draws_on_the_budget_as_well(small, form) -> None:
    with ExitStack() as stack:
        hold(small, stack, BUDGET)
        assert small.http.post("/v1/embed", **form(EMBED)).status_code == 503


def test_grpc_draws_on_the_same_budget(small) -> None:
    with ExitStack() as stack:
        hold(small, stack, BUDGET)
        with pytest.raises(grpc.RpcError) as caught:
            small.rpc.Embed(pb.EmbedRequest(texts=["abc"]), timeout=WAIT_S)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    details = Status.FromString(dict(caught.value.trailing_metadata())[STATUS_DETAILS_KEY])
    assert any(each.Is(RetryInfo.DESCRIPTOR) for each in details.details)
    small.notebook.wait_until_in_flight(lambda held: held == 0)
    assert small.rpc.Embed(pb.EmbedRequest(texts=["abc"]), timeout=WAIT_S).dim


def test_a_request_holds_its_bytes_while_it_is_answered_over_either_wire(small) -> None:
    padding = b" " * MIB
    with closing(socket.create_connection(small.address, timeout=WAIT_S)) as connection:
        body = b'{"texts":["hang"]}' + padding
        lines = ["POST /v1/embed HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        assert small.service.hanging.acquire(timeout=WAIT_S)
        assert small.notebook.num_bytes == len(body)
        call = small.rpc.Embed.future(pb.EmbedRequest(texts=["hang"]))
        assert small.service.hanging.acquire(timeout=WAIT_S)
        assert small.notebook.num_bytes > len(body)
        call.cancel()
    small.notebook.wait_until_in_flight(lambda held: held == 0)


def begin_call(edge, stack: ExitStack) -> grpc.Future:
    """A unary call whose message does not come."""
    is_over = threading.Event()
    stack.callback(is_over.set)
    embed = edge.channel.stream_unary("/plumbline.v1.Scoring/Embed", response_deserializer=pb.EmbedReply.FromString)
    call = embed.future(_after(is_over))
    stack.callback(call.cancel)
    return call


def _after(event: threading.Event, *messages: bytes) -> Iterator[bytes]:
    event.wait(WAIT_S)
    yield from messages


def test_a_message_that_came_late_counts_as_what_it_is(small) -> None:
    comes = threading.Event()
    message = pb.EmbedRequest(texts=["hang", "a" * 2000])
    call = small.channel.stream_unary("/plumbline.v1.Scoring/Embed").future(_after(comes, message.SerializeToString()))
    small.notebook.wait_until_in_flight(lambda held: 0 < held < 1000)  # the head of the call
    comes.set()
    assert small.service.hanging.acquire(timeout=WAIT_S)
    assert small.notebook.num_bytes == message.ByteSize()
    call.cancel()
    small.notebook.wait_until_in_flight(lambda held: held == 0)


def test_what_the_system_tells_nothing_of_counts_as_the_largest_message(open_over, monkeypatch) -> None:
    monkeypatch.delattr(socket, "TCP_INFO")
    edge = open_over(Settings(limits=Limits(max_request_bytes=2 * MIB, max_pixels=10, max_bytes_in_flight=BUDGET)))
    with ExitStack() as stack:
        for held in (2 * MIB, 4 * MIB):
            begin_call(edge, stack)
            edge.notebook.wait_until_in_flight(lambda num_bytes, held=held: num_bytes == held)
        refused = begin_call(edge, stack)
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert edge.http.post("/v1/embed", content=EMBED, headers=JSON).status_code == 503
    edge.notebook.wait_until_in_flight(lambda held: held == 0)


def test_a_message_is_not_waited_for_without_end(open_over) -> None:
    edge = open_over(Settings(limits=Limits(max_upload_s=0.1)))
    with ExitStack() as stack:
        assert begin_call(edge, stack).code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_call_without_a_message_is_malformed(small) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        small.channel.stream_unary("/plumbline.v1.Scoring/Embed")(iter(()), timeout=WAIT_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_caller_without_a_key_is_refused_before_its_message_has_come(guarded_edge) -> None:
    with ExitStack() as stack:
        assert begin_call(guarded_edge, stack).code() == grpc.StatusCode.UNAUTHENTICATED


def stream_batch(name: str, text: str) -> pb.ScoreStreamRequest:
    return pb.ScoreStreamRequest(correlation_id=name, request=pb.ScoreRequest(items=[pb.Item(text=text)]))


def test_a_stream_waits_for_room_before_its_next_batch_is_read(small) -> None:
    read = threading.Event()
    with ExitStack() as stack:
        hold(small, stack, BUDGET)
        call = small.rpc.ScoreStream(iter([stream_batch("a", "abc"), stream_batch("b", "abc")]), timeout=WAIT_S)
        call.add_callback(read.set)
        refused = small.rpc.Embed.future(pb.EmbedRequest(texts=["abc"]), timeout=WAIT_S)
        assert refused.code() == grpc.StatusCode.UNAVAILABLE  # one that cannot wait, for it has been read
        assert not read.is_set()
    replies = list(call)
    assert {reply.correlation_id for reply in replies} == {"a", "b"}
    assert {reply.WhichOneof("result") for reply in replies} == {"reply"}


def test_more_streams_than_may_be_open_are_refused(small, monkeypatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)
    sent: queue.SimpleQueue[pb.ScoreStreamRequest | None] = queue.SimpleQueue()
    held = small.rpc.ScoreStream(iter(sent.get, None), timeout=WAIT_S)
    sent.put(stream_batch("a", "abc"))
    assert next(held).correlation_id == "a"
    with pytest.raises(grpc.RpcError) as caught:
        next(small.rpc.ScoreStream(iter([stream_batch("b", "abc")]), timeout=WAIT_S))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    sent.put(None)
    assert list(held) == []
    assert next(small.rpc.ScoreStream(iter([stream_batch("c", "abc")]), timeout=WAIT_S)).correlation_id == "c"


def test_a_stream_that_is_idle_gives_its_place_to_another_and_one_at_work_does_not(open_over, monkeypatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 2)
    edge = open_over(Settings(), slow_after_s=0.0)
    sent: queue.SimpleQueue[pb.ScoreStreamRequest | None] = queue.SimpleQueue()
    idle = edge.rpc.ScoreStream(iter(sent.get, None), timeout=WAIT_S)
    sent.put(stream_batch("a", "abc"))
    assert next(idle).correlation_id == "a"
    at_work = edge.rpc.ScoreStream(iter([stream_batch("b", "hang")]), timeout=WAIT_S)
    assert edge.service.hanging.acquire(timeout=WAIT_S)
    for name in ("c", "d"):
        assert next(edge.rpc.ScoreStream(iter([stream_batch(name, "abc")]), timeout=WAIT_S)).correlation_id == name
    with pytest.raises(grpc.RpcError) as caught:
        next(idle)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert at_work.is_active()
    at_work.cancel()
    sent.put(None)


def arrive(edge, stack: ExitStack, num: int) -> list[socket.socket]:
    """Uploads that are begun and counted among those that arrive."""
    begun = [stack.enter_context(closing(begin_upload(edge, MIB))) for _ in range(num)]
    edge.notebook.wait_until_in_flight(lambda held: held == num * MIB)
    time.sleep(2 * PROMPT_S)
    return begun


def test_bodies_that_are_begun_keep_out_none_that_is_prompt(open_over) -> None:
    with ExitStack() as stack:
        edge = open_over(Settings(), max_arriving=2, prompt_s=PROMPT_S)
        arrive(edge, stack, 2)
        assert edge.http.post("/v1/embed", content=EMBED, headers=JSON).status_code == 200
        assert edge.rpc.Embed(pb.EmbedRequest(texts=["abc"]), timeout=WAIT_S).dim


def test_more_bodies_than_may_arrive_at_a_time_are_refused_and_the_slow_give_way(open_over) -> None:
    with ExitStack() as stack:
        edge = open_over(Settings(), max_arriving=2, prompt_s=PROMPT_S)
        arrive(edge, stack, 2)
        refused = stack.enter_context(closing(begin_upload(edge, 1)))
        assert refused.recv(65536).startswith(b"HTTP/1.1 503 ")
    with ExitStack() as stack:
        edge = open_over(Settings(), max_arriving=2, slow_after_s=0.0, prompt_s=PROMPT_S)
        slow, _ = arrive(edge, stack, 2)
        kept = stack.enter_context(closing(begin_upload(edge, len(EMBED) - 1)))
        assert slow.recv(65536).startswith(b"HTTP/1.1 503 ")
        kept.sendall(b" ")
        assert kept.recv(65536).startswith(b"HTTP/1.1 4")  # spaces are no JSON, and were read to their end


ENDS = [
    pytest.param(b"{", 400, id="broken"),
    pytest.param(b'{"texts":5}', 422, id="wrong"),
    pytest.param(b'{"texts":["crash"]}', 500, id="a bug"),
    pytest.param(b" " * (2 * MIB + 1), 413, id="too large"),
]


@pytest.mark.parametrize(("body", "status"), ENDS)
def test_the_bytes_are_given_back_however_the_request_ends(small, body: bytes, status: int) -> None:
    assert small.http.post("/v1/embed", content=body, headers=JSON).status_code == status
    small.notebook.wait_until_in_flight(lambda held: held == 0)


def test_a_body_that_comes_slowly_gives_its_share_to_one_that_needs_it(open_over) -> None:
    limits = Limits(max_request_bytes=2 * MIB, max_bytes_in_flight=BUDGET)
    edge = open_over(Settings(limits=limits), slow_after_s=0.0)
    with ExitStack() as stack:
        slow = stack.enter_context(closing(begin_upload(edge, MIB)))
        edge.notebook.wait_until_in_flight(lambda held: held == MIB)
        hold(edge, stack, BUDGET - MIB)
        assert edge.http.post("/v1/embed", content=EMBED, headers=JSON).status_code == 200
        answer = b""
        while b"}" not in answer:
            answer += slow.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"too slowly" in answer
        edge.notebook.wait_until_in_flight(lambda held: held == BUDGET - MIB)


def test_a_request_larger_than_the_whole_budget_is_too_large_over_either_wire(open_over) -> None:
    edge = open_over(Settings(limits=Limits(max_request_bytes=2 * MIB, max_bytes_in_flight=1000)))
    reply = edge.http.post("/v1/embed", content=EMBED + b" " * 1000, headers=JSON)
    assert (reply.status_code, reply.json()["code"]) == (413, "request_too_large")
    with pytest.raises(grpc.RpcError) as caught:
        edge.rpc.Embed(pb.EmbedRequest(texts=["a" * 1000]), timeout=WAIT_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_share_is_given_back_once_and_what_is_above_is_refused() -> None:
    seen: list[int] = []
    budget = BytesInFlight(Limits(max_request_bytes=80, max_bytes_in_flight=100), Heard(seen.append))
    with budget.share() as first, budget.share() as second:
        first.take(80)
        with pytest.raises(RequestTooLargeError):
            first.take(1)
        with pytest.raises(CapacityError) as caught:
            second.take(21)
        assert caught.value.retry_after_s > 0
        second.take(20)
    assert (budget.num_bytes, seen) == (0, [80, 100, 80, 0])


class Heard(Unobserved):
    """An observer that passes on what is in flight."""

    def __init__(self, hear: Callable[[int], None]) -> None:
        self._hear = hear

    def in_flight(self, num_bytes: int) -> None:
        self._hear(num_bytes)
