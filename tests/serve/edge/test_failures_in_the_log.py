"""Whatever fails inside the service is in its log, with the id of the request that it failed for."""

import json
import logging
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from plumbline_serve.logs import JsonFormatter
from plumbline_wire.v1 import scoring_pb2 as pb

B64 = {"b64": "ZW5naW5l"}  # what the service of rules has an engine fail on
FORMATTER = JsonFormatter("test")
CAUSE = "EngineError: The engine gave no number. encoder=mini/image"
ITEM = pb.Item(image=pb.ImageSource(data=b"engine"), text="a")
POLICY = pb.Policy(all=[pb.Threshold(scorer="sum", min=0)])
REST = {
    "score": {"items": [{"image": B64}]},
    "filter": {"items": [{"image": B64}], "policy": {"all": [{"scorer": "sum", "min": 0}]}},
    "rank": {"images": [B64], "text": "a"},
    "embed": {"images": [B64]},
}
GRPC: dict[str, Callable[[], Any]] = {
    "Score": lambda: pb.ScoreRequest(items=[ITEM]),
    "Filter": lambda: pb.FilterRequest(items=[ITEM], policy=POLICY),
    "Rank": lambda: pb.RankRequest(images=[ITEM.image], text="a"),
    "Embed": lambda: pb.EmbedRequest(images=[ITEM.image]),
}


def lines_of(caplog: pytest.LogCaptureFixture, request_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(FORMATTER.format(record)) for record in caplog.records if record.levelno >= logging.ERROR]
    return [line for line in lines if line["request_id"] == request_id]


@pytest.mark.parametrize("route", REST)
def test_an_item_that_an_engine_failed_on_is_logged_over_rest(edge, caplog, route):
    answer = edge.post(f"/v1/{route}", REST[route], headers={"x-request-id": f"rest-{route}"})
    assert answer.status_code == 200, answer.text
    assert "engine_failed" in answer.text
    (line,) = lines_of(caplog, f"rest-{route}")
    assert (line["cause"], line["count"]) == (CAUSE, 1)


@pytest.mark.parametrize("rpc", GRPC)
def test_an_item_that_an_engine_failed_on_is_logged_over_grpc(edge, caplog, rpc):
    getattr(edge.rpc, rpc)(GRPC[rpc](), metadata=[("x-request-id", f"grpc-{rpc}")], timeout=30)
    (line,) = lines_of(caplog, f"grpc-{rpc}")
    assert (line["cause"], line["count"]) == (CAUSE, 1)


def test_a_batch_of_a_stream_is_logged_as_well(edge, caplog):
    batch = pb.ScoreStreamRequest(correlation_id="1", request=pb.ScoreRequest(items=[ITEM]))
    assert len(list(edge.rpc.ScoreStream(iter([batch]), metadata=[("x-request-id", "streamed")], timeout=30))) == 1
    assert len(lines_of(caplog, "streamed")) == 1


def test_a_request_that_fails_as_a_whole_is_logged_on_both_wires(edge, caplog):
    caplog.set_level(logging.INFO)
    answer = edge.post("/v1/score", {"items": [{"text": "crash"}]}, headers={"x-request-id": "rest-crash"})
    assert answer.status_code == 500
    with pytest.raises(grpc.RpcError):
        edge.rpc.Score(pb.ScoreRequest(items=[pb.Item(text="crash")]), metadata=[("x-request-id", "grpc-crash")])
    for name in ("rest-crash", "grpc-crash"):
        [line] = lines_of(caplog, name)
        assert (line["message"], line["error"]) == ("request failed", "ZeroDivisionError: secret at /etc/secret")
        assert line["stack"][-1].endswith("in _obey")  # where it happened
