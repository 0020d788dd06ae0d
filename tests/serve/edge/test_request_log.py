"""Each request is a line of the log, on both wires, and nothing of it is the caller's but its id."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from plumbline_models.core.errors import InvalidFieldError, OverloadedError
from plumbline_serve.edge.observe import Unobserved
from plumbline_serve.edge.request_log import MAX_REFUSALS_PER_S, Answered, RequestLog
from plumbline_serve.logs import JsonFormatter
from plumbline_wire.v1 import scoring_pb2 as pb

NONE = pb.Item(text="raise no_items")
WAIT_S = 30.0
ITEM = {"image": {"b64": "YQ=="}, "text": "a s3cret"}


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "plumbline_serve")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonFormatter("gateway").format(record)) for record in caplog.records]


def lines_of(caplog: pytest.LogCaptureFixture, request_id: str, num: int = 1) -> list[dict[str, Any]]:
    """The lines of a request, of which the last is written once its reply is out."""
    until = time.monotonic() + WAIT_S
    while len(found := [each for each in lines(caplog) if each.get("request_id") == request_id]) < num:
        assert time.monotonic() < until
        time.sleep(0.005)
    return found


def the_line(caplog: pytest.LogCaptureFixture, request_id: str) -> dict[str, Any]:
    [line] = lines_of(caplog, request_id)
    return line


def test_an_answered_request_says_where_how_long_and_how_much(edge, caplog) -> None:
    edge.post("/v1/score", {"items": [ITEM] * 3}, headers={"x-request-id": "rest"})
    line = the_line(caplog, "rest")
    assert line.pop("ms") > 0
    assert line | {"message": "request", "level": "info", "route": "/v1/score", "protocol": "rest"} == line
    assert (line["code"], line["items"]) == ("200", 3)
    assert "caller" not in line
    edge.rpc.Score(pb.ScoreRequest(items=[pb.Item(text="a s3cret")]), metadata=[("x-request-id", "rpc")])
    line = the_line(caplog, "rpc")
    assert (line["route"], line["code"], line["items"]) == ("plumbline.v1.Scoring/Score", "OK", 1)
    assert "s3cret" not in "".join(map(str, lines(caplog)))


REFUSED = [
    pytest.param("/v1/score", {"items": [{"text": "raise no_items"}]}, "no_items", None, id="no items"),
    pytest.param("/v1/score", {"items": [{"text": 5}]}, "invalid_field", ["/items/0/text"], id="a field"),
    pytest.param("/v1/score", {"items": [{"s3cret": 5}]}, "invalid_field", ["/items/0/*"], id="no field of ours"),
    pytest.param(
        "/v1/score", {"items": [{}], "images": {"s3cret": {"b64": 5}}}, "invalid_field", ["/images/*/b64"], id="a key"
    ),
    pytest.param("/v1/s3cret", {}, "not_found", None, id="no route"),
]


@pytest.mark.parametrize(("path", "body", "code", "fields"), REFUSED)
def test_a_refused_request_says_why_in_our_words(edge, caplog, path, body, *, code, fields) -> None:
    edge.post(path, body, headers={"x-request-id": "named"})
    line = the_line(caplog, "named")
    assert (line["message"], line["refused"], line.get("fields")) == ("request refused", code, fields)
    assert "s3cret" not in str(line)


def test_a_refused_call_does_too_and_each_batch_of_a_stream(edge, caplog) -> None:
    with pytest.raises(grpc.RpcError):
        edge.rpc.Score(pb.ScoreRequest(items=[NONE]), metadata=[("x-request-id", "rpc")])
    assert (the_line(caplog, "rpc")["refused"], the_line(caplog, "rpc")["code"]) == ("no_items", "INVALID_ARGUMENT")
    batches = iter([pb.ScoreStreamRequest(correlation_id="1", request=pb.ScoreRequest(items=[NONE]))])
    list(edge.rpc.ScoreStream(batches, metadata=[("x-request-id", "stream")]))
    batch, stream = lines_of(caplog, "stream", 2)
    assert (batch["message"], batch["refused"]) == ("batch refused", "no_items")
    assert (stream["message"], stream["code"]) == ("request", "OK")


def test_probes_are_quiet(edge, caplog) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        edge.http.get(path, headers={"x-request-id": path[1:]})
        assert the_line(caplog, path[1:])["level"] == "debug"


class Clock:
    """A number of seconds for each look."""

    def __init__(self, *seconds: float) -> None:
        self._left: Iterator[float] = iter(seconds)

    def __call__(self) -> float:
        return next(self._left)


def test_a_flood_of_refusals_is_a_few_lines_and_how_many_there_were_more(caplog) -> None:
    full = OverloadedError("Full.", retry_after_s=1.0, reason="queue", estimated_wait_ms=900)
    log = RequestLog(Unobserved(), Clock(*[7.5] * (MAX_REFUSALS_PER_S + 5), 8.0))
    for _ in range(MAX_REFUSALS_PER_S + 6):
        log.answered(Answered("flood", "/v1/score", "rest", "429", 0.001, refusal=full))
    log.answered(Answered("wrong", "/v1/score", "rest", "422", 0.001, refusal=InvalidFieldError("No.")))
    heard = [line for line in lines(caplog) if line["level"] == "info"]
    assert [each["message"] for each in heard].count("request refused") == MAX_REFUSALS_PER_S + 2
    assert (heard[0]["reason"], heard[0]["estimated_wait_ms"]) == ("queue", 900)
    assert [each["count"] for each in heard if "count" in each] == [5]
