from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from plumbline_client import (
    AsyncGrpcClient,
    CapacityError,
    ConnectError,
    DeadlineError,
    DeadlineExceededError,
    ForbiddenError,
    GrpcClient,
    Image,
    InvalidRequestError,
    Item,
    ProblemError,
    Threshold,
    UnauthenticatedError,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_wire.v1 import scoring_pb2 as pb

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Code = grpc.StatusCode


@pytest.fixture
def client(grpc_server, slept) -> Iterator[GrpcClient]:
    with GrpcClient(grpc_server.target, sleep=slept.append) as client:
        yield client


def status(code: grpc.StatusCode, *, http: int, reason: str = "NO", details: tuple = ()) -> status_pb2.Status:
    message = status_pb2.Status(code=code.value[0], message="No.")
    facts = {"status": str(http), "title": "T", "type": "t"}
    message.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="plumbline", metadata=facts))
    for detail in details:
        message.details.add().Pack(detail)
    return message


def retry_info(milliseconds: int) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(milliseconds)
    return info


def test_items_arrive_as_they_were_given(grpc_server, client) -> None:
    grpc_server.answer(pb.ScoreReply())
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    items = [
        Item(Image.data(PNG), "a fox", id="1"),
        Item(Image.url("https://host/a.png"), ""),
        Item(Image.raw(pixels)),
        Item(text="no image"),
        Item(Image.raw(pixels.tobytes()[:12], 1, 3, channels=4)),
    ]
    client.score(items, scorers=["clipscore"], timeout_ms=None)
    (arrived,) = grpc_server.arrived
    raw = pb.RawImage(data=pixels.tobytes(), height=2, width=3)
    rgba = pb.RawImage(data=pixels.tobytes()[:12], height=1, width=3, channels=4)
    assert arrived == pb.ScoreRequest(
        scorers=["clipscore"],
        items=[
            pb.Item(id="1", image=pb.ImageSource(data=PNG), text="a fox"),
            pb.Item(image=pb.ImageSource(url="https://host/a.png"), text=""),
            pb.Item(image=pb.ImageSource(raw=raw)),
            pb.Item(text="no image"),
            pb.Item(image=pb.ImageSource(raw=rgba)),
        ],
    )
    assert arrived.items[1].HasField("text")
    assert not arrived.items[2].HasField("text")


def test_an_image_of_several_items_is_sent_once(grpc_server, client) -> None:
    grpc_server.answer(pb.ScoreReply())
    shared, single = Image.data(PNG), Image.data(PNG)
    client.score([Item(shared, "a"), Item(single, "b"), Item(shared, "c")])
    (arrived,) = grpc_server.arrived
    first, second, third = arrived.items
    assert first.image_key == third.image_key
    assert dict(arrived.images) == {first.image_key: pb.ImageSource(data=PNG)}
    assert second.image.data == PNG


def test_filter_rank_and_embed_arrive_as_they_were_given(grpc_server, client) -> None:
    grpc_server.answer(pb.FilterReply())
    grpc_server.answer(pb.RankReply())
    grpc_server.answer(pb.RankReply())
    grpc_server.answer(pb.EmbedReply())
    grpc_server.answer(pb.EmbedReply())
    source, client_options = pb.ImageSource(data=PNG), {"timeout_ms": None}
    client.filter(
        [Item(text="a")], [Threshold("x", min=0.0), Threshold("y", max=1, min_words=2)], explain=True, **client_options
    )
    client.rank("a", [Image.data(PNG)], scorer="x", top_k=3, **client_options)
    client.rank(Image.data(PNG), ["a", "b"], **client_options)
    client.embed([Image.data(PNG)], scorer="x", **client_options)
    client.embed(["a"], **client_options)
    assert grpc_server.arrived == [
        pb.FilterRequest(
            policy=pb.Policy(all=[pb.Threshold(scorer="x", min=0.0), pb.Threshold(scorer="y", max=1.0, min_words=2)]),
            items=[pb.Item(text="a")],
            explain=True,
        ),
        pb.RankRequest(text="a", images=[source], scorer="x", top_k=3),
        pb.RankRequest(image=source, texts=["a", "b"]),
        pb.EmbedRequest(images=[source], scorer="x"),
        pb.EmbedRequest(texts=["a"]),
    ]


def test_key_id_and_headers_are_sent(grpc_server) -> None:
    grpc_server.answer(pb.ScoreReply())
    with GrpcClient(grpc_server.target, api_key="hush", headers={"Application": "plumbline"}) as client:
        client.score([Item(text="a")], request_id="mine")
        assert "hush" not in repr(client)
    (metadata,) = grpc_server.metadata
    assert metadata["authorization"] == "Bearer hush"
    assert metadata["application"] == "plumbline"
    assert metadata["x-request-id"] == "mine"


def test_the_deadline_travels_as_a_field_too(grpc_server, client) -> None:
    left = []

    async def handler(request, context):
        left.append(context.time_remaining())
        return pb.ScoreReply()

    grpc_server.handlers.append(handler)
    client.score([Item(text="a")], timeout_ms=5000)
    assert 0 < grpc_server.arrived[0].timeout_ms <= 5000
    assert 4 < left[0] < 6  # gRPC sends a rounded deadline


@pytest.mark.parametrize(
    ("code", "http", "kind"),
    [
        (Code.INVALID_ARGUMENT, 422, InvalidRequestError),
        (Code.INVALID_ARGUMENT, 413, InvalidRequestError),
        (Code.UNAUTHENTICATED, 401, UnauthenticatedError),
        (Code.PERMISSION_DENIED, 403, ForbiddenError),
        (Code.NOT_FOUND, 404, InvalidRequestError),
        (Code.UNIMPLEMENTED, 405, InvalidRequestError),
        (Code.RESOURCE_EXHAUSTED, 429, CapacityError),
        (Code.INTERNAL, 500, ProblemError),
        (Code.UNAVAILABLE, 503, CapacityError),
        (Code.DEADLINE_EXCEEDED, 504, DeadlineExceededError),
    ],
)
def test_status_details_become_the_rest_problem(grpc_server, client, code, http: int, kind) -> None:
    faults = error_details_pb2.BadRequest()
    faults.field_violations.add(field="/items/0/text", description="must be a string")
    said = status(code, http=http, reason="SOMETHING_WRONG", details=(faults, retry_info(1)))
    grpc_server.refuse(code, "No.", said)
    with pytest.raises(ProblemError) as caught:
        client.score([Item(text="a")])
    error = caught.value
    assert type(error) is kind
    assert (str(error), error.code, error.request_id) == ("No.", "something_wrong", "theirs")
    assert error.problem.model_dump() == {
        "type": "t",
        "title": "T",
        "status": http,
        "detail": "No.",
        "code": "something_wrong",
        "errors": ({"pointer": "/items/0/text", "detail": "must be a string"},),
        "retry_after_ms": 1,
        "estimated_wait_ms": None,
        "reason": None,
        "request_id": "theirs",
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, InvalidRequestError),
        (Code.UNAUTHENTICATED, UnauthenticatedError),
        (Code.PERMISSION_DENIED, ForbiddenError),
        (Code.NOT_FOUND, InvalidRequestError),
        (Code.RESOURCE_EXHAUSTED, CapacityError),
        (Code.UNAVAILABLE, ConnectError),
        (Code.DEADLINE_EXCEEDED, DeadlineError),
        (Code.UNIMPLEMENTED, ProblemError),
        (Code.INTERNAL, ProblemError),
        (Code.DATA_LOSS, ProblemError),
    ],
)
def test_a_bare_status_code_is_understood(grpc_server, client, code, kind) -> None:
    grpc_server.refuse(code, "Bare.")
    with pytest.raises(kind) as caught:
        client.score([Item(text="a")], request_id="mine")
    assert type(caught.value) is kind
    assert caught.value.request_id == "mine"
    if kind is ConnectError:
        assert str(caught.value) == f"{grpc_server.target} was not reached: Bare."
    else:
        assert str(caught.value) == "Bare."


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.CANCELLED])
def test_a_call_that_was_broken_off_on_its_way_is_tried_again(grpc_server, client, slept, code) -> None:
    grpc_server.refuse(code, "Received RST_STREAM with error code 2")
    grpc_server.answer(pb.ScoreReply(request_id="r"))
    assert client.score([Item(text="a")]).request_id == "r"
    assert len(slept) == 1


def test_a_message_over_the_servers_limit_is_not_tried_again(grpc_server, client, slept) -> None:
    grpc_server.refuse(Code.RESOURCE_EXHAUSTED, "Received message larger than max (6 vs. 5)")
    with pytest.raises(InvalidRequestError) as caught:
        client.score([Item(text="a")])
    assert caught.value.problem.status == 413
    assert slept == []


def test_details_that_are_none_are_ignored(grpc_server, client) -> None:
    async def handler(request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.set_code(Code.INTERNAL)
        context.set_details("Bare.")
        return pb.ScoreReply()

    grpc_server.handlers.append(handler)
    with pytest.raises(ProblemError, match="Bare"):
        client.score([Item(text="a")])


def test_a_retry_waits_as_long_as_retry_info_asks(grpc_server, client, slept) -> None:
    busy = status(Code.RESOURCE_EXHAUSTED, http=429, details=(retry_info(7250),))
    grpc_server.refuse(Code.RESOURCE_EXHAUSTED, "No.", busy)
    grpc_server.refuse(Code.UNAVAILABLE, "No.", status(Code.UNAVAILABLE, http=503))
    grpc_server.answer(pb.ScoreReply(request_id="r"))
    assert client.score([Item(text="a")]).request_id == "r"
    assert len(slept) == 2
    assert 7.25 <= slept[0] < 7.4
    assert slept[1] < 0.3
    assert len({metadata["x-request-id"] for metadata in grpc_server.metadata}) == 1


def test_nobody_there_is_retried_and_then_said(nobody: str, slept) -> None:
    with GrpcClient(nobody, sleep=slept.append) as client, pytest.raises(ConnectError):
        client.score([Item(text="a")])
    assert len(slept) == 3


def test_no_answer_in_time_is_a_deadline_error(grpc_server, client, slept) -> None:
    grpc_server.never_answer()
    with pytest.raises(DeadlineError):
        client.score([Item(text="a")], timeout_ms=200)
    assert slept == []


async def test_no_answer_in_time_is_a_deadline_error_with_asyncio(grpc_server) -> None:
    grpc_server.never_answer()
    async with AsyncGrpcClient(grpc_server.target, timeout_ms=200) as client:
        with pytest.raises(DeadlineError):
            await client.score([Item(text="a")])


@pytest.mark.parametrize(
    "reply",
    [
        pb.EmbedReply(dim=2, vectors=[pb.Embedding(float32_le=b"1234")]),
        pb.EmbedReply(dim=2, vectors=[pb.Embedding()]),
    ],
    ids=["too short", "nothing"],
)
def test_a_vector_of_another_length_breaks_the_contract(grpc_server, client, reply) -> None:
    grpc_server.answer(reply)
    with pytest.raises(UnexpectedReplyError):
        client.embed(["a"])


@pytest.mark.parametrize("text", ["\ud800", 5], ids=["half a character", "a number"])
def test_what_does_not_fit_a_message_is_refused(grpc_server, client, text) -> None:
    with pytest.raises(UsageError):
        client.score([Item(text=text)])
    assert grpc_server.arrived == []


def test_an_http_address_is_refused() -> None:
    with pytest.raises(UsageError):
        GrpcClient("http://localhost:9000")


def test_ready_is_what_the_health_check_says(grpc_server, client) -> None:
    assert client.ready() is True
    grpc_server.set_health(NOT_SERVING)
    assert client.ready() is False


def test_nobody_there_is_not_ready(nobody: str) -> None:
    with GrpcClient(nobody) as client:
        assert client.ready() is False
