"""REST and gRPC answer the same numbers for the same bytes, and refuse the same requests alike."""

import base64
import struct

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumbline_client.grpc_problems import problem_document
from plumbline_wire.v1 import scoring_pb2 as pb


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=50), text=st.text(max_size=20).filter(lambda text: "raise" not in text))
def test_scores_are_equal_bit_by_bit(edge, data: bytes, text: str) -> None:
    source = {"b64": base64.b64encode(data).decode()}
    rest = edge.post("/v1/score", {"items": [{"image": source, "text": text}]}).json()["results"][0]["scores"]
    request = pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(data=data), text=text)])
    rpc = edge.rpc.Score(request).results[0].scores
    for scorer in ("sum", "worded"):
        assert bits(rest[scorer]["value"]) == bits(rpc[scorer].value)
    assert bits(rest["worded"]["cosine"]) == bits(rpc["worded"].cosine)
    (rest_word,), (rpc_word,) = rest["worded"]["words"], rpc["worded"].words
    assert rest_word["text"] == rpc_word.text == text
    assert rest_word["end"] == rpc_word.end == len(text)
    assert bits(rest_word["attribution"]) == bits(rpc_word.attribution)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_equal_bit_by_bit(edge, encoding: str) -> None:
    rest = edge.post("/v1/embed", {"texts": ["a", "abc", "abcde"], "encoding": encoding}).json()["vectors"]
    rpc = [each.float32_le for each in edge.rpc.Embed(pb.EmbedRequest(texts=["a", "abc", "abcde"])).vectors]
    read = base64.b64decode if encoding == "base64" else lambda vector: struct.pack("<3f", *vector)
    assert [read(vector) for vector in rest] == rpc


SOURCE = {"b64": ""}
PAIRS = [
    pytest.param({"items": [{}] * 9}, pb.ScoreRequest(items=[pb.Item()] * 9), id="too many items"),
    pytest.param({"items": [{}], "timeout_ms": -1}, pb.ScoreRequest(items=[pb.Item()], timeout_ms=-1), id="timeout"),
    pytest.param({"items": [{"image": {}}]}, pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource())]), id="no source"),
    pytest.param(
        {"items": [{"text": "raise unknown_scorer"}]},
        pb.ScoreRequest(items=[pb.Item(text="raise unknown_scorer")]),
        id="unknown scorer",
    ),
    pytest.param({"items": [{"text": "crash"}]}, pb.ScoreRequest(items=[pb.Item(text="crash")]), id="a bug"),
]


@pytest.mark.parametrize(("document", "message"), PAIRS)
def test_a_request_is_refused_alike(edge, document, message) -> None:
    headers = {"x-request-id": "me"}
    rest = edge.post("/v1/score", document, headers=headers).json()
    with pytest.raises(grpc.RpcError) as caught:
        edge.rpc.Score(message, metadata=list(headers.items()))
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert problem_document(status) | {"request_id": "me"} == rest


def test_an_items_error_is_the_same_on_both_wires(edge) -> None:
    rest = edge.post("/v1/score", {"items": [{"image": {"url": "x"}}]}).json()["results"][0]["error"]
    request = pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(url="x"))])
    rpc = edge.rpc.Score(request).results[0].error
    assert problem_document(rpc) == rest
    assert rpc.details[0].Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
