"""What wrong calls are answered: a canonical code, a sentence, and google.rpc details."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from plumbline_models.core.errors import error_classes
from plumbline_serve.edge.grpc.status import grpc_code
from plumbline_serve.edge.problems import INTERNAL_DETAIL
from plumbline_wire import SCORING_SERVICE
from plumbline_wire.v1 import scoring_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SOURCE = pb.ImageSource(data=b"x")


def failure(call: Any, request: Any, **kwargs: Any) -> tuple[grpc.StatusCode, str, dict[str, Any], dict[str, Any]]:
    """Code, sentence, details by kind, trailing metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **kwargs)
    metadata = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == caught.value.code().value[0]
    assert status.message == caught.value.details()
    found = {}
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.type_url.rsplit(".", 1)[1])
        found[kind.DESCRIPTOR.name] = kind()
        packed.Unpack(found[kind.DESCRIPTOR.name])
    return caught.value.code(), caught.value.details(), found, metadata


def faults(details: dict[str, Any]) -> dict[str, str]:
    return {each.field: each.description for each in details["BadRequest"].field_violations}


def score(**fields: Any) -> tuple[str, Any]:
    return "Score", pb.ScoreRequest(**fields)


def policy(*thresholds: pb.Threshold) -> tuple[str, Any]:
    return "Filter", pb.FilterRequest(policy=pb.Policy(all=thresholds), items=[pb.Item()])


def raw(height: int) -> tuple[str, Any]:
    image = pb.ImageSource(raw=pb.RawImage(data=b"", height=height, width=1))
    return score(items=[pb.Item(image=image)])


SIDES = {"": "must have either text and images, or image and texts"}
EMBED = {"": "must have exactly one of images, texts"}
NO_SOURCE = "must have exactly one of b64, url, part"
CASES = [
    pytest.param(score(items=[pb.Item(image=pb.ImageSource())]), {"/items/0/image": NO_SOURCE}, id="no source"),
    pytest.param(score(timeout_ms=0), {"/timeout_ms": "must be greater than 0"}, id="timeout of zero"),
    pytest.param(score(timeout_ms=float("nan")), {"/timeout_ms": "must be a finite number"}, id="no number"),
    pytest.param(score(timeout_ms=float("inf")), {"/timeout_ms": "must be a finite number"}, id="endless timeout"),
    pytest.param(raw(0), {"/items/0/image/raw/height": "must be at least 1"}, id="raw of no size"),
    pytest.param(policy(), {"/policy/all": "must not be empty"}, id="no policy"),
    pytest.param(
        policy(pb.Threshold(scorer="sum")),
        {"/policy/all/0": "must have min, max or both, or calibration alone"},
        id="threshold without bounds",
    ),
    pytest.param(
        policy(pb.Threshold(scorer="sum", min=1, max=0.5)),
        {"/policy/all/0": "must have a min that is not above its max"},
        id="bounds that no value is within",
    ),
    pytest.param(
        policy(pb.Threshold(scorer="sum", min=float("-inf"))),
        {"/policy/all/0/min": "must be a finite number"},
        id="infinite bound",
    ),
    pytest.param(("Rank", pb.RankRequest()), SIDES, id="rank nothing"),
    pytest.param(("Rank", pb.RankRequest(images=[SOURCE])), SIDES, id="rank without a text"),
    pytest.param(("Rank", pb.RankRequest(text="a", texts=["b"])), SIDES, id="rank texts for a text"),
    pytest.param(("Rank", pb.RankRequest(text="a", images=[SOURCE], image=SOURCE, texts=["b"])), SIDES, id="both ways"),
    pytest.param(
        ("Rank", pb.RankRequest(text="a", images=[SOURCE], top_k=0)), {"/top_k": "must be at least 1"}, id="no places"
    ),
    pytest.param(("Embed", pb.EmbedRequest()), EMBED, id="embed nothing"),
    pytest.param(("Embed", pb.EmbedRequest(texts=["a"], images=[SOURCE])), EMBED, id="embed both"),
]


@pytest.mark.parametrize(("call", "expected"), CASES)
def test_a_faulty_field_is_named(edge, call: tuple[str, Any], expected: dict[str, str]) -> None:
    rpc, request = call
    code, _, details, metadata = failure(getattr(edge.rpc, rpc), request)
    assert code is INVALID
    assert details["ErrorInfo"].reason == "INVALID_FIELD"
    assert faults(details) == expected
    assert metadata["x-request-id"]
    assert edge.service.received == []
    edge.notebook.wait_for((f"{SCORING_SERVICE}/{rpc}", "grpc", "INVALID_ARGUMENT"))
    assert edge.notebook.rejections == ["invalid_field"]


def test_the_longest_error_fits_into_the_metadata_of_a_call(edge) -> None:
    images = {"鉛" * 200 + str(i): pb.ImageSource() for i in range(8)}
    items = [pb.Item(id="x", image=pb.ImageSource())] * 8
    code, _, details, _ = failure(edge.rpc.Score, pb.ScoreRequest(images=images, items=items, scorers=["x"] * 65))
    assert code is INVALID
    assert len(faults(details)) > 8
    image = pb.ImageSource(url="x")
    for item in edge.rpc.Score(pb.ScoreRequest(items=[pb.Item(image=image)] * 8)).results:
        assert item.HasField("error")


def test_a_long_sentence_fits_into_the_metadata_of_a_call(edge) -> None:
    code, sentence, *_ = failure(
        edge.rpc.Score, pb.ScoreRequest(items=[pb.Item(text="raise overloaded " + "鉛" * 9999)])
    )
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sentence.encode() == ("鉛" * 9999).encode()[: len(sentence.encode())]
    assert 1000 < len(sentence.encode()) <= 1024


def test_too_many_items_are_refused_with_the_sentence_of_rest(edge) -> None:
    code, sentence, details, _ = failure(edge.rpc.Score, pb.ScoreRequest(items=[pb.Item()] * 9))
    assert (code, details["ErrorInfo"].reason) == (INVALID, "TOO_MANY_ITEMS")
    assert sentence == edge.post("/v1/score", {"items": [{}] * 9}).json()["detail"]


def test_too_many_bytes_are_refused_with_the_sentence_of_rest(edge) -> None:
    image = pb.ImageSource(data=bytes(2**20))
    code, sentence, details, _ = failure(edge.rpc.Embed, pb.EmbedRequest(images=[image]))
    assert (code, details["ErrorInfo"].reason) == (INVALID, "REQUEST_TOO_LARGE")
    too_large = edge.http.post("/v1/embed", content=bytes(2**20 + 1), headers={"content-type": "application/json"})
    assert sentence == too_large.json()["detail"]


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.code)
def test_what_the_service_raises_becomes_a_status(edge, kind) -> None:
    request = pb.ScoreRequest(items=[pb.Item(text=f"raise {kind.code}")])
    code, sentence, details, metadata = failure(edge.rpc.Score, request, metadata=[("x-request-id", "me")])
    assert code is grpc_code(kind("As told."))
    assert sentence == (INTERNAL_DETAIL if kind.status == 500 else "As told.")
    assert details["ErrorInfo"].metadata["status"] == str(kind.status)
    assert metadata["x-request-id"] == "me"
    assert "secret" not in str(details) + str(metadata)
    if kind.status in (429, 503):
        assert details["RetryInfo"].retry_delay.ToMilliseconds() == 1200


@pytest.mark.parametrize("rpc", ["Score", "Filter", "Rank", "Embed"])
def test_a_bug_is_internal_and_says_nothing_of_itself(edge, rpc: str) -> None:
    requests = {
        "Score": pb.ScoreRequest(items=[pb.Item(text="crash")]),
        "Filter": pb.FilterRequest(
            items=[pb.Item(text="crash")], policy=pb.Policy(all=[pb.Threshold(scorer="a", min=0)])
        ),
        "Rank": pb.RankRequest(text="crash", images=[SOURCE]),
        "Embed": pb.EmbedRequest(texts=["crash"]),
    }
    code, sentence, details, metadata = failure(getattr(edge.rpc, rpc), requests[rpc])
    assert (code, sentence) == (grpc.StatusCode.INTERNAL, INTERNAL_DETAIL)
    assert "secret" not in str(details) + str(metadata)


def test_bytes_that_are_no_message_harm_nobody(edge) -> None:
    garbage = edge.channel.unary_unary(f"/{SCORING_SERVICE}/Score", lambda text: text, pb.ScoreReply.FromString)
    for sent in (b"\xff" * 100, b"\x1a\x04\x12\x02\xff\xfe", b"\x0a\x05ab"):
        with pytest.raises(grpc.RpcError):
            garbage(sent)
    assert edge.rpc.Embed(pb.EmbedRequest(texts=["a"])).dim == 3


@pytest.mark.parametrize(
    "metadata", [[], [("authorization", "Bearer wrong")], [("authorization", "first-key")]], ids=str
)
def test_calls_without_a_known_key_are_refused(guarded_edge, metadata) -> None:
    calls = [
        (guarded_edge.rpc.Score, pb.ScoreRequest(items=[pb.Item(text="a")])),
        (guarded_edge.rpc.ListScorers, pb.ListScorersRequest()),
        (guarded_edge.rpc.ListModels, pb.ListModelsRequest()),
        (
            lambda request, **kwargs: list(guarded_edge.rpc.ScoreStream(iter([request]), **kwargs)),
            pb.ScoreStreamRequest(),
        ),
    ]
    guarded_edge.service.received.clear()
    for call, request in calls:
        code, _, details, _ = failure(call, request, metadata=metadata)
        assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert guarded_edge.service.received == []


def test_calls_with_a_key_that_is_not_for_scoring_are_refused(guarded_edge) -> None:
    guarded_edge.service.received.clear()
    request, metadata = pb.ScoreRequest(items=[pb.Item(text="a")]), [("authorization", "Bearer operator-key")]
    code, _, details, _ = failure(guarded_edge.rpc.Score, request, metadata=metadata)
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.PERMISSION_DENIED, "MISSING_SCOPE")
    assert guarded_edge.service.received == []


def test_calls_with_a_known_key_pass(guarded_edge) -> None:
    metadata = [("authorization", "Bearer second-key")]
    assert guarded_edge.rpc.ListScorers(pb.ListScorersRequest(), metadata=metadata).scorers
