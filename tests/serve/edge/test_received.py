"""Deadlines count from when HAProxy had the request, as far as that can be."""

import time

import grpc
import pytest

from plumbline_serve.edge.received import GRPC_TIMEOUT, MAX_WAITED_S, RECEIVED, timeout_ms, waited_s
from plumbline_wire.v1 import scoring_pb2 as pb

DOCUMENT = {"items": [{"text": "a"}]}
DAY_S = 86_400


def ago(seconds: float) -> str:
    return str(int((time.time() - seconds) * 1000))


def test_what_waited_before_it_came_has_waited_that_long() -> None:
    assert 30 <= waited_s(ago(30)) < MAX_WAITED_S


@pytest.mark.parametrize("received", [None, "", "soon", "-5", "1e3", "9" * 16, "0", ago(-DAY_S), ago(DAY_S)], ids=repr)
def test_what_cannot_be_is_no_wait(received: str | None) -> None:
    assert waited_s(received) == 0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *[("2H", 7_200_000), ("3M", 180_000), ("4S", 4000), ("500m", 500), ("7u", 0.007), ("8n", 8e-6)],
        *[(None, None), ("", None), ("5", None), ("S", None), ("-1S", None), ("123456789S", None), ("1s", None)],
    ],
)
def test_a_timeout_is_read_as_grpc_writes_it(written: str | None, expected: float | None) -> None:
    assert timeout_ms(written) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("header", [{"x-request-timeout-seconds": "20"}, {"x-plumbline-timeout-seconds": "20"}, {}])
def test_a_request_whose_time_passed_on_its_way_is_answered_without_work(edge, header: dict[str, str]) -> None:
    document = DOCUMENT if header else DOCUMENT | {"timeout_ms": 20_000}
    reply = edge.post("/v1/score", document, headers=header | {RECEIVED: ago(30)})
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline_exceeded")
    assert (edge.service.received, edge.notebook.expired_stages) == ([], ["receive"])


def test_the_wait_is_taken_off_what_is_left(edge) -> None:
    edge.post("/v1/score", DOCUMENT | {"timeout_ms": 90_000}, headers={RECEIVED: ago(30)})
    assert edge.service.received[-1].timeout_ms < 60_000


def test_a_call_has_its_deadline_from_its_metadata_and_its_wait_too(edge) -> None:
    request = pb.EmbedRequest(texts=["abc"])
    edge.rpc.Embed(request, metadata=[(GRPC_TIMEOUT, "90S"), (RECEIVED, ago(30))])
    assert edge.service.received[-1].timeout_ms < 60_000
    edge.service.received.clear()
    with pytest.raises(grpc.RpcError) as caught:
        edge.rpc.Embed(request, metadata=[(GRPC_TIMEOUT, "20S"), (RECEIVED, ago(30))])
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert (edge.service.received, edge.notebook.expired_stages) == ([], ["receive"])


def test_a_batch_of_a_stream_has_what_is_left_of_the_call(edge) -> None:
    item = pb.Item(image=pb.ImageSource(data=b"hallo"), text="hi")
    batch = pb.ScoreStreamRequest(correlation_id="a", request=pb.ScoreRequest(items=[item], timeout_ms=95_000))
    [reply] = edge.rpc.ScoreStream(iter([batch]), metadata=[(GRPC_TIMEOUT, "90S"), (RECEIVED, ago(30))])
    assert reply.WhichOneof("result") == "reply"
    assert edge.service.received[-1].timeout_ms < 60_000
