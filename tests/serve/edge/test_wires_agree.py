"""REST and gRPC answer the same numbers for the same bytes, and refuse the same requests alike."""

import base64
import json
import struct
from typing import Any

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


B64, DATA, NO_IMAGE = {"b64": ""}, pb.ImageSource(data=b""), pb.ImageSource()
FLAT = {"part": "a", "raw": {"height": 0, "width": 0}}
RAW = pb.ImageSource(raw=pb.RawImage())
TWO = {"part": "a", "raw": {"height": 1, "width": 1, "channels": 2}}
RAW_TWO = pb.ImageSource(raw=pb.RawImage(height=1, width=1, channels=2))
SEVEN: Any = 7  # no answer that there is
INF = float("inf")


def policy(*conditions: dict) -> dict:
    return {"policy": {"all": list(conditions)}}


def wire_policy(*conditions: dict) -> pb.Policy:
    return pb.Policy(all=[pb.Threshold(**each) for each in conditions])


BARE, WORDLESS = {"scorer": "sum"}, {"scorer": "sum", "min_words": 0}
BOUNDLESS = {"scorer": "sum", "min": INF, "max": -INF, "min_words": 2**17}
SCORE = [
    pytest.param({"items": [{}] * 9}, {"items": [pb.Item()] * 9}, id="too many items"),
    pytest.param(
        {"items": [], "images": {str(i): B64 for i in range(9)}},
        {"images": {str(i): DATA for i in range(9)}},
        id="too many images",
    ),
    pytest.param({"items": [{}], "timeout_ms": -1}, {"items": [pb.Item()], "timeout_ms": -1}, id="negative timeout"),
    pytest.param({"items": [{}], "timeout_ms": INF}, {"items": [pb.Item()], "timeout_ms": INF}, id="endless timeout"),
    pytest.param({"items": [{}], "priority": "7"}, {"items": [pb.Item()], "priority": 7}, id="another priority"),
    pytest.param({"items": [{"image": {}}]}, {"items": [pb.Item(image=NO_IMAGE)]}, id="no source"),
    pytest.param({"items": [{"image": FLAT}]}, {"items": [pb.Item(image=RAW)]}, id="raw without a size"),
    pytest.param({"items": [{"image": TWO}]}, {"items": [pb.Item(image=RAW_TWO)]}, id="raw of two channels"),
    pytest.param({"items": [], "scorers": ["a"] * 65}, {"scorers": ["a"] * 65}, id="scorers without end"),
    pytest.param(
        {"items": [{"references": ["a"] * 65, "reference_image": {}, "phrases": ["a"] * 65}]},
        {"items": [pb.Item(references=["a"] * 65, reference_image=NO_IMAGE, phrases=["a"] * 65)]},
        id="references and phrases without end",
    ),
    pytest.param(
        {"items": [{"questions": [{"text": "a", "expect": "7", "tag": "x" * 129, "depends_on": [0] * 33}]}]},
        {"items": [pb.Item(questions=[pb.Question(text="a", expect=SEVEN, tag="x" * 129, depends_on=[0] * 33)])]},
        id="a question of wrong values",
    ),
    pytest.param(
        {"items": [{"questions": [{"text": "a"}] * 9}] * 2},
        {"items": [pb.Item(questions=[pb.Question(text="a")] * 9)] * 2},
        id="questions without end",
    ),
    pytest.param(
        {"items": [{"image": FLAT}, {}, {"image": {}}], "images": {"a/b": {}}, "timeout_ms": 0, "scorers": ["a"] * 65},
        {
            "items": [pb.Item(image=RAW), pb.Item(), pb.Item(image=NO_IMAGE)],
            "images": {"a/b": NO_IMAGE},
            "timeout_ms": 0,
            "scorers": ["a"] * 65,
        },
        id="many faults",
    ),
    pytest.param(
        {"items": [{"text": "raise unknown_scorer"}]},
        {"items": [pb.Item(text="raise unknown_scorer")]},
        id="unknown scorer",
    ),
    pytest.param({"items": [{"text": "crash"}]}, {"items": [pb.Item(text="crash")]}, id="a bug"),
]


def combine(method: str, *terms: dict, name: str = "r") -> dict:
    return {"combine": {name: {"method": method, "terms": list(terms)}}, "items": [{}]}


def wire_combine(method: Any, *terms: dict, name: str = "r") -> dict:
    return {"combine": {name: pb.Combination(method=method, terms=[pb.Term(**t) for t in terms])}, "items": [pb.Item()]}


UP, HALF = {"scorer": "a", "min": 0, "max": 1}, {"scorer": "b", "max": 1}
FLAT_TERM, HEAVY = {"scorer": "c", "min": 1, "max": 1}, {"scorer": "d", "weight": 1e10}
PLAIN, SUM, MEAN = {"scorer": "a"}, pb.METHOD_SUM, pb.METHOD_HARMONIC
SCORE += [
    pytest.param(combine("7", UP), wire_combine(7, UP), id="another method"),
    pytest.param(combine("sum"), wire_combine(SUM), id="no terms"),
    pytest.param(combine("sum", *[PLAIN] * 65), wire_combine(SUM, *[PLAIN] * 65), id="many terms"),
    pytest.param(combine("sum", HALF, FLAT_TERM, HEAVY), wire_combine(SUM, HALF, FLAT_TERM, HEAVY), id="bounds"),
    pytest.param(combine("sum", PLAIN, UP), wire_combine(SUM, PLAIN, UP), id="a scorer twice"),
    pytest.param(combine("harmonic", PLAIN), wire_combine(MEAN, PLAIN), id="no bounds for a mean"),
    pytest.param(combine("harmonic", UP | {"weight": 0}), wire_combine(MEAN, UP | {"weight": 0}), id="no weight"),
    pytest.param(combine("sum", UP, name=""), wire_combine(SUM, UP, name=""), id="a combination of no name"),
    pytest.param(combine("sum", UP, name="x" * 65), wire_combine(SUM, UP, name="x" * 65), id="a long name"),
    pytest.param(
        {"items": [{}], "combine": {str(i): {"method": "sum", "terms": [PLAIN]} for i in range(17)}},
        {"items": [pb.Item()], "combine": dict.fromkeys(map(str, range(17)), pb.Combination(method=SUM))},
        id="many combinations",
    ),
]
FILTER = [
    pytest.param(policy() | {"items": []}, {}, id="no conditions"),
    pytest.param(policy(*[BARE] * 65) | {"items": []}, {"policy": wire_policy(*[BARE] * 65)}, id="many conditions"),
    pytest.param(policy(BARE, WORDLESS) | {"items": []}, {"policy": wire_policy(BARE, WORDLESS)}, id="no bounds"),
    pytest.param(policy(BOUNDLESS) | {"items": []}, {"policy": wire_policy(BOUNDLESS)}, id="bounds without end"),
]
RANK = [
    pytest.param({}, {}, id="nothing"),
    pytest.param(
        {"combine": combine("7", UP)["combine"], "top_k": 0},
        {"combine": wire_combine(7, UP)["combine"], "top_k": 0},
        id="another method and no places",
    ),
    pytest.param({"text": "a", "texts": ["b"]}, {"text": "a", "texts": ["b"]}, id="texts for a text"),
    pytest.param({"image": B64, "images": [B64]}, {"image": DATA, "images": [DATA]}, id="images for an image"),
    pytest.param({"images": [B64]}, {"images": [DATA]}, id="images for nothing"),
    pytest.param({"text": "a", "images": [{}], "top_k": 0}, {"text": "a", "images": [NO_IMAGE], "top_k": 0}, id="two"),
    pytest.param({"image": {}, "texts": ["a"] * 8}, {"image": NO_IMAGE, "texts": ["a"] * 8}, id="no image"),
    pytest.param({"image": B64, "texts": ["a"] * 9}, {"image": DATA, "texts": ["a"] * 9}, id="too many texts"),
]
EMBED = [
    pytest.param({}, {}, id="nothing"),
    pytest.param({"texts": ["a"], "images": [B64]}, {"texts": ["a"], "images": [DATA]}, id="both"),
    pytest.param(
        {"texts": ["a"], "images": [{}]}, {"texts": ["a"], "images": [NO_IMAGE]}, id="both, one without source"
    ),
]


def check_refused_alike(edge, rpc: str, document: dict, fields: dict) -> None:
    headers = {"x-request-id": "me", "content-type": "application/json"}
    content = json.dumps(document).replace("Infinity", "1e999")
    rest = edge.http.post(f"/v1/{rpc.lower()}", content=content, headers=headers).json()
    with pytest.raises(grpc.RpcError) as caught:
        getattr(edge.rpc, rpc)(getattr(pb, f"{rpc}Request")(**fields), metadata=[("x-request-id", "me")])
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert problem_document(status) | {"request_id": "me"} == rest


@pytest.mark.parametrize(("document", "fields"), SCORE)
def test_a_request_to_score_is_refused_alike(edge, document, fields) -> None:
    check_refused_alike(edge, "Score", document, fields)


@pytest.mark.parametrize(("document", "fields"), FILTER)
def test_a_request_to_filter_is_refused_alike(edge, document, fields) -> None:
    check_refused_alike(edge, "Filter", document, fields)


@pytest.mark.parametrize(("document", "fields"), RANK)
def test_a_request_to_rank_is_refused_alike(edge, document, fields) -> None:
    check_refused_alike(edge, "Rank", document, fields)


@pytest.mark.parametrize(("document", "fields"), EMBED)
def test_a_request_to_embed_is_refused_alike(edge, document, fields) -> None:
    check_refused_alike(edge, "Embed", document, fields)


def test_an_items_error_is_the_same_on_both_wires(edge) -> None:
    rest = edge.post("/v1/score", {"items": [{"image": {"url": "x"}}]}).json()["results"][0]["error"]
    request = pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(url="x"))])
    rpc = edge.rpc.Score(request).results[0].error
    assert problem_document(rpc) == rest
    assert rpc.details[0].Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
