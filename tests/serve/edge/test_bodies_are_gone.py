"""What a request brought is gone once it has ended, however it ended, without the help of Python's collector."""

import gc
import json
import queue
import socket
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from plumbline_serve.edge.rest.multipart import FormReader
from plumbline_serve.memory.bytes_in_flight import Share
from plumbline_serve.messages import EncodedImage, ScoreRequest
from plumbline_wire.v1 import scoring_pb2 as pb

WAIT_S = 30.0
TEXTS = ["hi", "raise overloaded", "crash"]
HELD = (Share, FormReader, EncodedImage, ScoreRequest)
"""What refers to the bytes of a body, or stands in a frame beside what does."""


def held_now() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in HELD]


@pytest.fixture(autouse=True)
def others() -> Iterator[set[int]]:
    """What other tests' modules hold for good; the collector rests meanwhile."""
    gc.collect()
    gc.disable()
    kept = held_now()
    yield {id(each) for each in kept}
    gc.enable()


def wait_until_nothing_is_held(edge, others: set[int]) -> None:
    edge.service.received.clear()
    until = time.monotonic() + WAIT_S
    while held := [each for each in held_now() if id(each) not in others]:
        assert time.monotonic() < until, held
        del held
        time.sleep(0.01)


def document(text: str, image: str = "a") -> bytes:
    return json.dumps({"items": [{"image": {"part": image}, "text": text}]}).encode()


@pytest.mark.parametrize("text", TEXTS)
def test_a_form_is_gone_once_it_is_answered(edge, others, form, text: str) -> None:
    edge.http.post("/v1/score", **form(document(text), a=b"hallo"))
    wait_until_nothing_is_held(edge, others)


@pytest.mark.parametrize("body", [b"{", b'{"items": 5}', b" " * (2**20 + 1), b"0," * 10_000], ids=len)
def test_json_is_gone_once_it_is_refused(edge, others, body: bytes) -> None:
    edge.http.post("/v1/score", content=body, headers={"content-type": "application/json"})
    wait_until_nothing_is_held(edge, others)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_what_was_begun_is_gone_with_its_caller(edge, others, kind: str) -> None:
    lines = ["POST /v1/score HTTP/1.1", "Host: x", f"Content-Type: {kind}", "Content-Length: 1000000", "", ""]
    begun = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(500_000)
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall("\r\n".join(lines).encode() + begun)
        edge.notebook.wait_until_in_flight(lambda held: held > 400_000)
    edge.notebook.wait_for(("/v1/score", "rest", "499"))
    wait_until_nothing_is_held(edge, others)


def message(text: str) -> pb.ScoreRequest:
    return pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(data=b"hallo"), text=text)])


@pytest.mark.parametrize("text", TEXTS)
def test_a_message_is_gone_once_it_is_answered(edge, others, text: str) -> None:
    call = edge.rpc.Score.future(message(text), timeout=WAIT_S)
    call.code()
    wait_until_nothing_is_held(edge, others)


def hang_up_unary(edge) -> grpc.Future:
    call: grpc.Future = edge.rpc.Score.future(message("hang"), timeout=WAIT_S)
    return call


def hang_up_stream(edge) -> grpc.Future:
    batch = pb.ScoreStreamRequest(correlation_id="a", request=message("hang"))
    call: grpc.Future = edge.rpc.ScoreStream(iter([batch]), timeout=WAIT_S)
    return call


@pytest.mark.parametrize("begin", [hang_up_unary, hang_up_stream])
def test_a_message_is_gone_with_its_caller(edge, others, begin: Callable[..., grpc.Future]) -> None:
    call = begin(edge)
    assert edge.service.hanging.acquire(timeout=WAIT_S)
    call.cancel()
    assert edge.service.cancelled.acquire(timeout=WAIT_S)
    wait_until_nothing_is_held(edge, others)


@pytest.mark.parametrize("text", TEXTS)
def test_a_batch_is_gone_while_its_stream_goes_on(edge, others, text: str) -> None:
    sent: queue.SimpleQueue[pb.ScoreStreamRequest | None] = queue.SimpleQueue()
    replies = edge.rpc.ScoreStream(iter(sent.get, None), timeout=WAIT_S)
    sent.put(pb.ScoreStreamRequest(correlation_id="a", request=message(text)))
    assert next(replies).correlation_id == "a"
    wait_until_nothing_is_held(edge, others)
    sent.put(None)
    assert list(replies) == []
