"""What a key may use, as callers of both wires see it."""

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from pydantic import SecretStr

from plumbline_serve.edge.access.keys_file import changing
from plumbline_serve.settings import Limits, Settings
from plumbline_serve.settings.access import AuthSettings
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.keys import add_key
from tests.redis_server import running_redis

WAIT_S = 30.0


@pytest.fixture
def open_for(tmp_path: Path, open_over: Callable[..., Any]) -> Callable[..., Any]:
    """Opens both edges for one key with limits."""

    def opener(limits_url: SecretStr | None = None, **entry: Any) -> Any:
        keys = add_key(tmp_path / "keys.yaml", "a-key", **entry)
        auth = AuthSettings(keys_file=keys, limits_url=limits_url)
        edge = open_over(Settings(auth=auth, limits=Limits(max_items=64)))
        edge.http.headers["authorization"] = "Bearer a-key"
        return edge

    return opener


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretStr]:
    with running_redis(tmp_path_factory.mktemp("redis"), password="a-password") as server:
        yield SecretStr(server.url)


def body(num_items: int, text: str = "a") -> dict[str, Any]:
    return {"items": [{"text": text}] * num_items}


def call(edge: Any, num_items: int, text: str = "a") -> tuple[grpc.StatusCode, dict[str, Any]]:
    request = pb.ScoreRequest(items=[pb.Item(text=text)] * num_items)
    try:
        _, done = edge.rpc.Score.with_call(request, metadata=[("authorization", "Bearer a-key")])
    except grpc.RpcError as error:
        done = error  # a call as well
    return done.code(), dict(done.trailing_metadata())


def test_a_request_counts_by_its_items_on_both_wires(open_for) -> None:
    edge = open_for(rate="100/hour")
    first = edge.post("/v1/score", body(60))
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"items";q=100;w=3600'
    assert first.headers["ratelimit"].startswith('"items";r=40;t=')
    code, metadata = call(edge, 39)
    assert code is grpc.StatusCode.OK
    assert metadata["ratelimit-policy"] == '"items";q=100;w=3600'
    assert metadata["ratelimit"].startswith('"items";r=1;t=')
    refused = edge.post("/v1/score", body(2))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 7200
    assert refused.headers["ratelimit"].startswith('"items";r=0;t=')  # it was counted as one when it came
    assert len(edge.service.received) == 2
    code, metadata = call(edge, 1)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert any(each.Unpack(retry) for each in status.details if each.Is(retry.DESCRIPTOR))
    assert retry.retry_delay.seconds > 0
    assert metadata["ratelimit"].startswith('"items";r=0;t=')


@pytest.mark.parametrize(
    ("path", "document", "num_items"),
    [
        ("/v1/rank", {"text": "a", "images": [{"b64": "YQ=="}] * 3}, 3),
        ("/v1/rank", {"image": {"b64": "YQ=="}, "texts": ["a"] * 4}, 4),
        ("/v1/embed", {"texts": ["a"] * 5}, 5),
        ("/v1/filter", {"items": [{"text": "a"}] * 6, "policy": {"all": [{"scorer": "sum", "min": 0}]}}, 6),
        ("/v1/score", body(1), 1),
        ("/v1/score", {"items": 1}, 1),
        ("/v1/scorers", None, 1),
        ("/nope", None, 1),
    ],
)
def test_every_call_counts(open_for, path: str, document: Any, num_items: int) -> None:
    edge = open_for(rate="100/hour")
    reply = edge.http.get(path) if document is None else edge.post(path, document)
    assert reply.headers["ratelimit"].startswith(f'"items";r={100 - num_items};')


def test_a_body_is_not_read_for_a_key_that_has_used_everything(open_for) -> None:
    edge = open_for(rate="1/day")
    assert edge.post("/v1/score", body(1)).status_code == 200
    head = "POST /v1/score HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a-key\r\ncontent-length: 1000000\r\n"
    with socket.create_connection(edge.address, timeout=WAIT_S) as connection:
        connection.sendall(f"{head}content-type: application/json\r\n\r\n{{".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 429 ")


def test_more_items_than_a_window_holds_are_never_taken(open_for) -> None:
    edge = open_for(rate="10/minute")
    refused = edge.post("/v1/score", body(11))
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_items")
    code, _ = call(edge, 11)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_without_limits_there_are_no_headers_of_them(open_for) -> None:
    reply = open_for().post("/v1/score", body(1))
    assert not {"ratelimit", "ratelimit-policy"} & set(reply.headers)


def test_a_caller_without_a_key_learns_nothing_of_limits(open_for) -> None:
    edge = open_for(rate="10/minute", concurrency=1)
    reply = edge.http.get("/v1/scorers", headers={"authorization": "Bearer other"})
    assert reply.status_code == 401
    assert not {"ratelimit", "ratelimit-policy"} & set(reply.headers)


def test_so_many_requests_are_under_way_on_both_wires_together(open_for) -> None:
    edge = open_for(concurrency=1)
    hanging = edge.rpc.Score.future(
        pb.ScoreRequest(items=[pb.Item(text="hang")]), metadata=[("authorization", "Bearer a-key")]
    )
    assert edge.service.hanging.acquire(timeout=WAIT_S)
    refused = edge.post("/v1/score", body(1))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == '"concurrency";q=1;qu="concurrent-requests"'
    assert refused.headers["ratelimit"] == '"concurrency";r=0'
    assert call(edge, 1)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    hanging.cancel()
    assert edge.service.cancelled.acquire(timeout=WAIT_S)
    edge.notebook.wait_for(("plumbline.v1.Scoring/Score", "grpc", "CANCELLED"))
    assert edge.post("/v1/score", body(1)).status_code == 200


def hang(edge: Any) -> Any:
    """A request under way."""
    request = pb.ScoreRequest(items=[pb.Item(text="hang")])
    hanging = edge.rpc.Score.future(request, metadata=[("authorization", "Bearer a-key")])
    assert edge.service.hanging.acquire(timeout=WAIT_S)
    return hanging


def test_each_gateway_counts_requests_under_way_by_itself(open_for, open_over) -> None:
    first = open_for(concurrency=1)
    second = open_over(first.settings)
    second.http.headers["authorization"] = "Bearer a-key"
    for edge, hanging in [(edge, hang(edge)) for edge in (first, second)]:
        assert edge.post("/v1/score", body(1)).status_code == 429
        hanging.cancel()


def test_gateways_over_one_redis_count_requests_under_way_together(open_for, open_over, redis_url) -> None:
    first = open_for(redis_url, concurrency=2)
    second = open_over(first.settings)
    second.http.headers["authorization"] = "Bearer a-key"
    calls = [hang(first), hang(first)]
    assert second.post("/v1/score", body(1)).status_code == 429
    assert call(second, 1)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    calls[0].cancel()
    first.notebook.wait_for(("plumbline.v1.Scoring/Score", "grpc", "CANCELLED"))
    reply = second.post("/v1/score", body(1))
    assert (reply.status_code, reply.headers["ratelimit"]) == (200, '"concurrency";r=0')
    calls[1].cancel()


def test_batches_of_a_stream_count_one_by_one(open_for) -> None:
    edge = open_for(rate="10/hour", concurrency=2)
    batches = [
        pb.ScoreStreamRequest(correlation_id=str(number), request=pb.ScoreRequest(items=[pb.Item(text="a")] * 4))
        for number in range(4)
    ]
    stream = edge.rpc.ScoreStream(iter(batches), metadata=[("authorization", "Bearer a-key")])
    replies = {reply.correlation_id: reply.WhichOneof("result") for reply in stream}
    assert sorted(replies.values()) == ["error", "error", "reply", "reply"]  # 1 for the stream, 4 for each batch
    assert dict(stream.trailing_metadata())["ratelimit"].startswith('"items";r=1;')


def test_a_revoked_key_is_refused_without_a_restart(open_for, tmp_path: Path) -> None:
    edge = open_for()
    assert edge.http.get("/v1/scorers").status_code == 200
    with changing(tmp_path / "keys.yaml") as entries:
        entries.clear()
    for _ in range(int(WAIT_S * 10)):
        if edge.http.get("/v1/scorers").status_code == 401:
            break
        threading.Event().wait(0.1)
    assert edge.http.get("/v1/scorers").status_code == 401
    assert call(edge, 1)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_stream_that_was_opened_by_a_key_ends_its_work_with_it(open_for, tmp_path: Path) -> None:
    edge = open_for(name="first")
    sent: queue.SimpleQueue[pb.ScoreStreamRequest | None] = queue.SimpleQueue()
    stream = edge.rpc.ScoreStream(iter(sent.get, None), metadata=[("authorization", "Bearer a-key")], timeout=WAIT_S)
    request = pb.ScoreRequest(items=[pb.Item(text="a")])
    sent.put(pb.ScoreStreamRequest(correlation_id="1", request=request))
    assert next(stream).HasField("reply")
    with changing(tmp_path / "keys.yaml") as entries:
        entries.clear()
    while edge.http.get("/v1/scorers").status_code != 401:
        threading.Event().wait(0.1)
    sent.put(pb.ScoreStreamRequest(correlation_id="2", request=request))
    assert next(stream).error.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    sent.put(None)


def test_the_service_is_told_who_calls_on_both_wires(open_for) -> None:
    edge = open_for(name="pipeline", weight=3.0)
    edge.post("/v1/score", body(1))
    call(edge, 1)
    assert [(caller.tenant, caller.weight) for caller in edge.service.callers] == [("pipeline", 3.0)] * 2
