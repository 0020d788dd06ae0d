"""The same request over REST and gRPC gets the same scores, bit for bit, or the same errors."""

import base64
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from hypothesis import assume, given
from hypothesis import strategies as st

from plumbline_client import grpc_wire, replies, set_replies
from plumbline_client.grpc_problems import problem_document
from plumbline_wire import STATUS_DETAILS_KEY
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.fuzz.inputs import mutated_images, requests
from tests.fuzz.served import NUM_CASES, Served, cases, check_problems

BOUNDARY = "boundary-of-the-tests"
RPCS: dict[str, tuple[type[Any], type[Any]]] = {
    "Score": (pb.ScoreRequest, replies.ScoreReply),
    "Rank": (pb.RankRequest, replies.RankReply),
    "Filter": (pb.FilterRequest, replies.FilterReply),
    "Embed": (pb.EmbedRequest, replies.EmbedReply),
    "Diversity": (pb.DiversityRequest, set_replies.DiversityReply),
    "Distance": (pb.DistanceRequest, set_replies.DistanceReply),
    "Audit": (pb.AuditRequest, set_replies.AuditReply),
    "ReferSet": (pb.ReferenceSetRequest, set_replies.ReferenceSetEntry),
}
ROUTES = {
    "Diversity": "sets/diversity",
    "Distance": "sets/distance",
    "Audit": "sets/audit",
    "ReferSet": "sets/references",
}
Parts = dict[str, bytes]


def document_of(request: Any, parts: Parts) -> dict[str, Any]:
    """The message as REST has it; what only a part can carry goes there."""
    document = _EMPTY.get(type(request), {}) | {
        field.name: _OF_SETS.get(field.name, partial(_value, field))(value, parts)
        for field, value in request.ListFields()
    }
    if document.pop("equal_only", False):
        document["near_duplicate"] = None
    if (guards := document.get("guards")) is not None:
        document["guards"] = {"views": guards.views, "explain": guards.explain}
    if isinstance(request, pb.RankRequest):  # protobuf has no list that is given and empty
        if "text" in document and "texts" not in document:
            document.setdefault("images", [])
        if "image" in document and "images" not in document:
            document.setdefault("texts", [])
    return document


_EMPTY: dict[type[Any], dict[str, Any]] = {
    pb.ScoreRequest: {"items": []},
    pb.FilterRequest: {"items": [], "policy": {"all": []}},
    pb.EmbedRequest: {"encoding": "base64"},
    pb.AuditRequest: {"groups": []},
    pb.ReferenceSetRequest: {"name": ""},
}


_OF_SETS: dict[str, Callable[[Any, Parts], Any]] = {
    "a": document_of,
    "b": document_of,
    "embeddings": lambda rows, _: [base64.b64encode(each).decode() for each in rows],
    "orders": lambda orders, _: ["inf" if each == math.inf else each for each in orders],
    "labels": lambda labels, _: [each.group if each.HasField("group") else None for each in labels],
    "compat": lambda number, _: {pb.COMPAT_OFFICIAL: "official"}.get(number, str(number)),
    "elements": lambda elements, _: {field.name: list(names) for field, names in elements.ListFields()},
}


def _value(field: Any, value: Any, parts: Parts) -> Any:
    match field.name:
        case "priority":
            return pb.Priority.Name(value).removeprefix("PRIORITY_").lower()
        case "policy":
            return {"all": [_by_scorer(each) for each in value.all]}
        case "items":
            return [_item(each, parts) for each in value]
        case "image" | "images":
            return _sources(value, parts)
        case "combine":
            return {name: _combination(value[name]) for name in value}
        case _:
            return list(value) if field.is_repeated else value


def _sources(value: Any, parts: Parts) -> Any:
    if isinstance(value, pb.ImageSource):
        return _source(value, parts)
    if hasattr(value, "keys"):
        return {key: _source(value[key], parts) for key in value}
    return [_source(each, parts) for each in value]


def _source(source: pb.ImageSource, parts: Parts) -> dict[str, Any]:
    match source.WhichOneof("source"):
        case "data":
            return {"b64": base64.b64encode(source.data).decode()}
        case "url":
            return {"url": source.url}
        case "raw":
            name = f"part-{len(parts)}"
            parts[name] = source.raw.data
            shape = {"height": source.raw.height, "width": source.raw.width}
            channels = {"channels": source.raw.channels} if source.raw.HasField("channels") else {}
            return {"part": name, "raw": shape | channels}
        case _:
            return {}


def _item(item: Any, parts: Parts) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name in ("id", "text", "group"):
        if item.HasField(name):
            document[name] = getattr(item, name)
    for name in ("references", "phrases"):
        document[name] = list(getattr(item, name))
    document["questions"] = [_question(each) for each in item.questions]
    if item.frames:
        document["frames"] = [_frame(each, parts) for each in item.frames]
    pools = {0: "mean", pb.POOL_MEAN: "mean", pb.POOL_MIN: "min", pb.POOL_CLIP4CLIP: "clip4clip"}
    document["pool"] = pools.get(item.pool, str(item.pool))
    for name in ("image", "reference_image"):
        match item.WhichOneof(f"{name}_ref"):
            case str(which) if which.endswith("_key"):
                document[name] = getattr(item, which)
            case str(which):
                document[name] = _source(getattr(item, which), parts)
    return document


def _frame(frame: pb.Frame, parts: Parts) -> Any:
    return frame.key if frame.WhichOneof("frame_ref") == "key" else _source(frame.image, parts)


def _question(question: pb.Question) -> dict[str, Any]:
    words = {pb.EXPECT_UNSPECIFIED: "yes", pb.EXPECT_YES: "yes", pb.EXPECT_NO: "no"}
    tag = {"tag": question.tag} if question.HasField("tag") else {}
    expect = words.get(question.expect, str(question.expect))
    return {"text": question.text, "expect": expect, "depends_on": list(question.depends_on)} | tag


def _combination(combination: pb.Combination) -> dict[str, Any]:
    method = {pb.METHOD_SUM: "sum", pb.METHOD_HARMONIC: "harmonic"}.get(combination.method, str(combination.method))
    return {"method": method, "terms": [_by_scorer(term) for term in combination.terms]}


def _by_scorer(given: pb.Threshold | pb.Term) -> dict[str, Any]:
    return {"scorer": given.scorer} | {field.name: value for field, value in given.ListFields()}


def over_rest(served: Served, name: str, request: Any) -> Any:
    parts: Parts = {}
    content = json.dumps(document_of(request, parts)).encode()
    headers = {"x-request-id": "fuzz", "content-type": "application/json"}
    if parts:
        headers["content-type"] = f"multipart/form-data; boundary={BOUNDARY}"
        heads = [('name="request"', content), *((f'name="{part}"; filename="a"', data) for part, data in parts.items())]
        pieces = [b"--%b\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % _bytes(*each) for each in heads]
        content = b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])
    return served.rest("POST", f"/v1/{ROUTES.get(name, name.lower())}", content, headers)


def _bytes(head: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    return BOUNDARY.encode(), head.encode(), data


def check_alike(served: Served, name: str, request: Any) -> bool:
    """Send a request over both; whether it was answered."""
    _, kind = RPCS[name]
    rest, rpc = over_rest(served, name, request), served.rpc(name, request)
    if isinstance(rpc, grpc.RpcError):
        status = status_pb2.Status.FromString(dict(rpc.trailing_metadata())[STATUS_DETAILS_KEY])
        assert _in_any_order(rest.json()) == _in_any_order(problem_document(status) | {"request_id": "fuzz"})
        check_problems(rest.json())
        return False
    assert rest.status_code == 200, rest.text
    check_problems(rest.json())
    by_rest = kind.model_validate_json(rest.content).model_dump(exclude={"timing_ms", "encoding", "created"})
    by_rpc = kind.model_validate(grpc_wire._read_message(rpc)).model_dump(exclude={"timing_ms", "created"})
    assert repr(_sorted(by_rest)) == repr(_sorted(by_rpc)), "repr tells every bit of a float"
    return True


def _in_any_order(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem whatever fault comes first, for a map of protobuf has no order; its sentence names the first."""
    faults = sorted(problem.get("errors", ()), key=lambda fault: str(fault["pointer"]))
    return {**problem, "errors": faults, "detail": problem["detail"] if len(faults) < 2 else ""}


def _sorted(value: Any) -> Any:
    """The value with its members in one order, for a map of protobuf has none."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", RPCS)
def test_any_request_is_answered_or_refused_alike(served: Served, name: str) -> None:
    @cases(0.2)
    @given(request=requests(RPCS[name][0]))
    def each(request: Any) -> None:
        assume(request.priority in pb.Priority.values())  # JSON has no other numbers, and below no other floats
        assume(not math.isnan(request.timeout_ms) and not math.isinf(request.timeout_ms))
        if 0 < request.timeout_ms < 60_000:
            request.timeout_ms = 60_000  # so that time decides nothing
        policy = request.policy.all if isinstance(request, pb.FilterRequest) else ()
        terms = [term for each in getattr(request, "combine", {}).values() for term in each.terms]
        assume(all(math.isfinite(each.min) and math.isfinite(each.max) for each in (*policy, *terms)))
        assume(all(math.isfinite(term.weight) for term in terms))
        assume(all(each == math.inf or math.isfinite(each) for each in getattr(request, "orders", ())))
        named = ("near_duplicate", "rbf_sigma", "margin", "association")
        several = [*getattr(request, "weights", ()), *getattr(request, "wanted", ())]
        assume(all(map(math.isfinite, [*several, *(getattr(request, name, 0.0) for name in named)])))
        is_answered = check_alike(served, name, request)
        NUM_CASES[f"both wires {'answered' if is_answered else 'refused'}"] += 2

    each()


@cases(1)
@given(data=mutated_images(), text=st.sampled_from(["", "a red circle"]))
def test_an_image_of_changed_bytes_is_scored_or_refused_alike(served: Served, data: bytes, text: str) -> None:
    request = pb.ScoreRequest(items=[pb.Item(image=pb.ImageSource(data=data), text=text)])
    assert check_alike(served, "Score", request)
    NUM_CASES["images of changed bytes, both wires"] += 2
