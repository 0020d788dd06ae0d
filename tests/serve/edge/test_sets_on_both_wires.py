"""What is asked about sets reaches the service alike over both wires, is refused alike, and answered alike."""

import base64
import json
import math
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2

from plumbline_client.grpc_problems import problem_document
from plumbline_serve.messages import Base64Image, EncodedImage
from plumbline_wire import SCORING_SERVICE
from plumbline_wire.v1 import scoring_pb2 as pb

SHA = "0" * 63 + "A"
ROW = np.array([1 / 3, 2.5], "<f4").tobytes()
B64, DATA, NO_IMAGE = {"b64": base64.b64encode(b"x").decode()}, pb.ImageSource(data=b"x"), pb.ImageSource()
INF = math.inf
ROUTES = {"Diversity": "diversity", "Distance": "distance", "Audit": "audit", "ReferSet": "references"}
REQUESTS: dict[str, Any] = {
    "Diversity": pb.DiversityRequest,
    "Distance": pb.DistanceRequest,
    "Audit": pb.AuditRequest,
    "ReferSet": pb.ReferenceSetRequest,
}
LABELS = [pb.GroupLabel(group="a"), pb.GroupLabel()]
PAIR, TWO, GROUPS = {"hashes": [SHA] * 2}, pb.EncodingSet(hashes=[SHA] * 2), {"groups": ["a", "b"]}


def over_rest(edge: Any, rpc: str, document: dict[str, Any]) -> Any:
    headers = {"x-request-id": "me", "content-type": "application/json"}
    content = json.dumps(document).replace("Infinity", "1e999")
    return edge.http.post(f"/v1/sets/{ROUTES[rpc]}", content=content, headers=headers).json()


def over_grpc(edge: Any, rpc: str, fields: dict[str, Any]) -> Any:
    return getattr(edge.rpc, rpc)(REQUESTS[rpc](**fields), metadata=[("x-request-id", "me")])


@pytest.mark.parametrize(
    ("rpc", "document", "fields"),
    [
        pytest.param("Diversity", {"hashes": [SHA]}, {"hashes": [SHA]}, id="what is left out has the same defaults"),
        pytest.param(
            "Diversity",
            {"hashes": [SHA], "texts": ["a"], "weights": [2], "orders": [0.5, "inf"], "near_duplicate": 0.5,
             "scorer": "sum", "timeout_ms": 1e9, "priority": "batch", "deterministic": True},
            {"hashes": [SHA], "texts": ["a"], "weights": [2], "orders": [0.5, INF], "near_duplicate": 0.5,
             "scorer": "sum", "timeout_ms": 1e9, "priority": pb.PRIORITY_BATCH, "deterministic": True},
            id="diversity with everything",
        ),
        pytest.param(
            "Diversity", {"hashes": [SHA], "near_duplicate": None}, {"hashes": [SHA], "equal_only": True}, id="equal"
        ),
        pytest.param("Distance", {"a": PAIR, "b": PAIR}, {"a": TWO, "b": TWO}, id="distance to another"),
        pytest.param(
            "Distance",
            {"a": PAIR, "reference": "launch", "rbf_sigma": 10, "scorer": "sum"},
            {"a": TWO, "reference": "launch", "rbf_sigma": 10, "scorer": "sum"},
            id="distance to what is kept",
        ),
        pytest.param("Audit", {**GROUPS, "labels": ["a", None]}, {**GROUPS, "labels": LABELS}, id="audit of labels"),
        pytest.param(
            "Audit",
            {**GROUPS, "hashes": [SHA], "prompts": ["x", "y"], "margin": 0, "pair": ["b", "a"], "wanted": [1, 2],
             "association": 0.5, "compat": "official", "elements": {"explicit": ["a dog"], "markers": ["a fan"]}},
            {**GROUPS, "hashes": [SHA], "prompts": ["x", "y"], "margin": 0, "pair": ["b", "a"], "wanted": [1, 2],
             "association": 0.5, "compat": pb.COMPAT_OFFICIAL,
             "elements": pb.Elements(explicit=["a dog"], markers=["a fan"])},
            id="audit with everything",
        ),
    ],
)  # fmt: skip
def test_a_request_reaches_the_service_alike(edge, rpc, document, fields) -> None:
    over_rest(edge, rpc, document)
    over_grpc(edge, rpc, fields)
    by_rest, by_rpc = (repr(_with_lists(request)) for request in edge.service.received)
    assert by_rest == by_rpc


def _with_lists(request: Any) -> dict[str, Any]:
    """The fields; sequences as lists, and the time that is left as whether there is a limit."""
    found: dict[str, Any] = {}
    for name in request.__dataclass_fields__:
        value = getattr(request, name)
        if hasattr(value, "__dataclass_fields__"):
            value = _with_lists(value)
        found[name] = list(value) if isinstance(value, list | tuple) else value
    return found | {"timeout_ms": found.get("timeout_ms") is not None}


def test_members_come_as_each_wire_carries_them(edge) -> None:
    over_rest(edge, "Diversity", {"images": [B64]})
    over_grpc(edge, "Diversity", {"images": [DATA]})
    over_rest(edge, "Diversity", {"embeddings": [base64.b64encode(ROW).decode()], "encoder": "mine"})
    over_grpc(edge, "Diversity", {"embeddings": [ROW], "encoder": "mine"})
    images, files, coded, rows = edge.service.received
    assert (images.images, files.images) == ([Base64Image(B64["b64"])], [EncodedImage(b"x")])
    assert [base64.b64decode(each) for each in coded.embeddings] == rows.embeddings == [ROW]
    assert (coded.encoder, rows.encoder) == ("mine", "mine")


@pytest.mark.parametrize(
    ("rpc", "document", "fields"),
    [
        pytest.param("Diversity", {}, {}, id="no set"),
        pytest.param("Diversity", {"images": [B64], "hashes": [SHA]}, {"images": [DATA], "hashes": [SHA]}, id="forms"),
        pytest.param("Diversity", {"hashes": [SHA], "encoder": "x"}, {"hashes": [SHA], "encoder": "x"}, id="encoder"),
        pytest.param(
            "Diversity",
            {"embeddings": [[1]], "encoder": "x" * 257},
            {"embeddings": [ROW], "encoder": "x" * 257},
            id="a long name",
        ),
        pytest.param("Diversity", {"hashes": ["abc"]}, {"hashes": ["abc"]}, id="no SHA-256"),
        pytest.param("Diversity", {"hashes": [SHA] * 4097}, {"hashes": [SHA] * 4097}, id="too many hashes"),
        pytest.param("Diversity", {"embeddings": [""] * 4097}, {"embeddings": [b""] * 4097}, id="too many embeddings"),
        pytest.param("Diversity", {"images": [B64, {}]}, {"images": [DATA, NO_IMAGE]}, id="no source"),
        pytest.param(
            "Diversity",
            {"hashes": [SHA], "orders": [0.4, 1, INF, 2000]},
            {"hashes": [SHA], "orders": [0.4, 1, -INF, 2000]},
            id="orders out of range",
        ),
        pytest.param(
            "Diversity", {"hashes": [SHA], "orders": [1] * 17}, {"hashes": [SHA], "orders": [1] * 17}, id="many orders"
        ),
        pytest.param(
            "Diversity", {"hashes": [SHA], "weights": [1, 0]}, {"hashes": [SHA], "weights": [1, 0]}, id="no weight"
        ),
        pytest.param(
            "Diversity",
            {"hashes": [SHA], "near_duplicate": 1.5, "timeout_ms": -1, "priority": "7"},
            {"hashes": [SHA], "near_duplicate": 1.5, "timeout_ms": -1, "priority": 7},
            id="several faults",
        ),
        pytest.param(
            "Diversity",
            {"hashes": [SHA], "texts": ["raise too_many_items"]},
            {"hashes": [SHA], "texts": ["raise too_many_items"]},
            id="what the service refuses",
        ),
        pytest.param("Distance", {"reference": "launch"}, {"reference": "launch"}, id="no a"),
        pytest.param("Distance", {"a": {"hashes": [SHA]}}, {"a": {"hashes": [SHA]}}, id="nothing to compare with"),
        pytest.param(
            "Distance",
            {"a": {"hashes": [SHA]}, "b": {"hashes": [SHA]}, "reference": "launch"},
            {"a": {"hashes": [SHA]}, "b": {"hashes": [SHA]}, "reference": "launch"},
            id="two to compare with",
        ),
        pytest.param(
            "Distance",
            {"a": {}, "b": {"images": [{}]}, "reference": "Launch", "rbf_sigma": 0},
            {"a": {}, "b": {"images": [NO_IMAGE]}, "reference": "Launch", "rbf_sigma": 0},
            id="everything wrong",
        ),
        pytest.param("Audit", GROUPS, GROUPS, id="neither labels nor prompts"),
        pytest.param(
            "Audit",
            {"groups": ["a"], "labels": ["", "x" * 65], "prompts": ["x"], "margin": 2, "pair": ["a"], "wanted": [0, 1],
             "association": -1, "compat": "7", "elements": {"explicit": ["", "a"], "markers": ["a"] * 65}},
            {"groups": ["a"], "labels": [pb.GroupLabel(group=""), pb.GroupLabel(group="x" * 65)], "prompts": ["x"],
             "margin": 2, "pair": ["a"], "wanted": [0, 1], "association": -1, "compat": 7,
             "elements": pb.Elements(explicit=["", "a"], markers=["a"] * 65)},
            id="every field",
        ),
        pytest.param("ReferSet", {"name": "", "hashes": [SHA]}, {"hashes": [SHA]}, id="no name"),
        pytest.param("ReferSet", {"name": "launch"}, {"name": "launch"}, id="nothing to keep"),
        pytest.param(
            "ReferSet",
            {"name": "launch", "embeddings": [[1]]},
            {"name": "launch", "embeddings": [ROW]},
            id="embeddings of nothing known",
        ),
        pytest.param(
            "ReferSet",
            {"name": "launch", "embeddings": [[1]], "encoder": ""},
            {"name": "launch", "embeddings": [ROW], "encoder": ""},
            id="an empty encoder",
        ),
    ],
)  # fmt: skip
def test_a_request_is_refused_alike(edge, rpc, document, fields) -> None:
    rest = over_rest(edge, rpc, document)
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(edge, rpc, fields)
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert problem_document(status) | {"request_id": "me"} == rest


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        pytest.param({"hashes": [SHA], "orders": [1, math.nan]}, "/orders/1 must be a finite number.", id="no number"),
        pytest.param({"images": [NO_IMAGE] * 4097}, "/images must have at most 4096 entries.", id="images, unread"),
    ],
)
def test_what_json_cannot_say_or_is_refused_for_its_length_is_refused_by_the_field(edge, fields, fault) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(edge, "Diversity", fields)
    assert caught.value.details().endswith(fault)
    assert edge.service.received == []


def test_diversity_is_answered_alike(edge) -> None:
    asked = {"texts": ["a"], "orders": [1, 2]}
    rest = over_rest(edge, "Diversity", {"images": [B64], **asked})
    rpc = over_grpc(edge, "Diversity", {"images": [DATA], **asked})
    assert rpc.request_id == "me"
    assert not rpc.HasField("encoder")
    assert not rpc.HasField("mean_pairwise")
    assert (dict(rpc.vendi), dict(rpc.vendi_centred)) == (rest["vendi"], rest["vendi_centred"])
    assert [list(each.members) for each in rpc.duplicates] == rest["duplicates"] == [[0, 2]]
    assert not rpc.identical
    assert not rpc.sce.HasField("corrected")
    assert (rpc.sce.image, rpc.sce.image_share, rpc.sce.reliable) == (1.5, 1 / 3, False)
    (error,) = rpc.errors
    assert {"index": error.index, "error": problem_document(error.error)} == rest["errors"][0]
    assert (rpc.n, rpc.timing_ms.compute) == (3, 1 / 3)
    edge.notebook.wait_for((f"{SCORING_SERVICE}/Diversity", "grpc", "OK"), ("/v1/sets/diversity", "rest", "200"))


def test_distance_is_answered_alike(edge) -> None:
    rest = over_rest(edge, "Distance", {"a": {"hashes": [SHA]}, "b": {"hashes": [SHA]}})
    rpc = over_grpc(edge, "Distance", {"a": TWO, "b": TWO})
    names = ("encoder", "n_a", "n_b", "frechet", "frechet_floor", "mmd_polynomial", "mmd_rbf", "rbf_sigma")
    assert {name: getattr(rpc, name) for name in names} == {name: rest[name] for name in names}
    assert (list(rpc.errors_a), rpc.errors_b[0].index) == ([], rest["errors_b"][0]["index"])


def test_an_audit_is_answered_alike(edge) -> None:
    asked: dict[str, Any] = {**GROUPS, "prompts": ["x", "y"], "association": 0.5}
    rest = over_rest(edge, "Audit", {**asked, "images": [B64], "elements": {"explicit": ["a dog"]}})
    rpc = over_grpc(edge, "Audit", {**asked, "images": [DATA], "elements": pb.Elements(explicit=["a dog"])})
    assert (rpc.caution, rpc.n, rpc.num_unknown, list(rpc.absent)) == ("Beware.", 2, 1, ["b"])
    assert [(each.name, each.count, each.HasField("skew")) for each in rpc.groups] == [("a", 1, False), ("b", 1, False)]
    assert {name: [each.low, each.high] for name, each in rpc.intervals.items()} == rest["intervals"]
    assert rpc.max_skew == rest["max_skew"]
    assert {name: getattr(rpc.spread, name) for name in rest["spread"]} == rest["spread"]
    rates = {name: value for name, value in rest["elements"].items() if value is not None}
    assert {field.name: value for field, value in rpc.elements.ListFields()} == rates
    assert [(each.label, each.HasField("label"), each.confidence) for each in rpc.guesses] == [
        ("", False, 0.5), ("a", True, 1 / 3)
    ]  # fmt: skip
    assert rpc.errors[0].index == 0


def test_sets_are_kept_listed_and_forgotten_by_keys_for_that(guarded_edge) -> None:
    rpc = guarded_edge.rpc
    usual, deciding = ([("authorization", f"Bearer {name}-key")] for name in ("second", "deciding"))
    request = pb.ReferenceSetRequest(name="launch", embeddings=[ROW] * 2, encoder="mine")
    delete = pb.DeleteReferenceSetRequest(name="launch")
    for call, refused in ((rpc.ReferSet, request), (rpc.DeleteReferenceSet, delete)):
        with pytest.raises(grpc.RpcError) as caught:
            call(refused, metadata=usual)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    made = rpc.ReferSet(request, metadata=[*deciding, ("x-request-id", "me")])
    assert (made.request_id, made.name, made.encoder, made.n, made.dim) == ("me", "launch", "mine", 2, 2)
    assert dict(made.bound_to.conventions) == {"images.alpha": "white"}
    (listed,) = rpc.ListReferenceSets(pb.ListReferenceSetsRequest(), metadata=usual).sets
    assert (listed.name, listed.bound_to, listed.created) == (made.name, made.bound_to, made.created)
    rpc.DeleteReferenceSet(delete, metadata=deciding)
    assert not rpc.ListReferenceSets(pb.ListReferenceSetsRequest(), metadata=usual).sets
    with pytest.raises(grpc.RpcError) as caught:
        rpc.DeleteReferenceSet(delete, metadata=deciding)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    for name in ("ListReferenceSets", "Diversity", "Distance", "Audit"):
        with pytest.raises(grpc.RpcError) as caught:
            getattr(rpc, name)(getattr(pb, f"{name}Request")())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
