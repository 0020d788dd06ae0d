"""Where a gateway dies with a request, Ray's proxies answer as the edge would, on both wires: clients try again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve._private.grpc_util import get_grpc_response_status, gRPCGenericServer
from ray.serve._private.proxy import gRPCProxy
from ray.serve._private.proxy_request_response import ResponseStatus

from plumbline_client import AsyncGrpcClient, Batch, CapacityError, Image, Item, RetryPolicy
from plumbline_serve.deployments.http_servers import Explained
from plumbline_serve.edge.grpc.unreadable import add_scoring
from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc

pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # inside Ray
ITEM = Item(Image.data(b"image"), "a text", id="1")
DEATHS = [
    pytest.param(ActorUnavailableError("Actor is unavailable.", b"0" * 16), id="its connection ended"),
    pytest.param(ActorDiedError(), id="it died"),
    pytest.param(RayTaskError("score", "", ActorDiedError()), id="it died with the task"),
    pytest.param(RuntimeError("Unexpected error (StatusCode.UNAVAILABLE): None."), id="it was away"),
    pytest.param(asyncio.CancelledError(), id="its server stopped"),
]


class Proxy(gRPCProxy):
    """Ray's handlers, over requests that fail as those to a replica do."""

    def __init__(self, answer: Callable[[Any], bytes]) -> None:  # nothing of a cluster
        self._answer = answer

    async def proxy_request(self, proxy_request: Any) -> AsyncIterator[Any]:
        try:
            yield self._answer(proxy_request)
        except BaseException as error:  # noqa: BLE001 - as Ray does
            yield get_grpc_response_status(error, None, "id")
        else:
            yield ResponseStatus(code=grpc.StatusCode.OK)


@asynccontextmanager
async def proxied(answer: Callable[[Any], bytes]) -> AsyncIterator[str]:
    server = gRPCGenericServer(Proxy(answer).service_handler_factory, extra_options=[])
    add_scoring(scoring_pb2_grpc.ScoringServicer(), server)  # type: ignore[abstract]  # in stubs alone; Ray calls none of it
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def raising(error: BaseException) -> Callable[[Any], bytes]:
    def answer(request: Any) -> bytes:
        raise error

    return answer


@pytest.mark.parametrize("error", DEATHS)
async def test_a_call_that_died_with_its_gateway_is_unavailable_and_comes_again(error: BaseException) -> None:
    died: list[BaseException] = []

    def answer(request: Any) -> bytes:
        if not died:
            died.append(error)
            raise error
        return pb.ScoreReply(request_id="r").SerializeToString()

    async with proxied(answer) as target:
        async with AsyncGrpcClient(target, retry=RetryPolicy(max_attempts=1)) as client:
            with pytest.raises(CapacityError) as caught:
                await client.score([ITEM], request_id="mine")
            assert (caught.value.code, caught.value.request_id) == ("unavailable", "mine")
            assert caught.value.retry_after_ms == 1000
        died.clear()
        async with AsyncGrpcClient(target) as client:
            assert (await client.score([ITEM])).request_id == "r"


async def test_a_stream_that_died_with_its_gateway_is_unavailable() -> None:
    async with proxied(raising(ActorDiedError())) as target, AsyncGrpcClient(target) as client:
        with pytest.raises(CapacityError):
            async for _ in client.score_stream([Batch([ITEM])]):
                pass


async def test_what_the_edge_says_is_left_as_it_is() -> None:
    said = [("x-request-id", "r"), ("grpc-status-details-bin", b"details")]

    def answer(request: Any) -> bytes:
        request.context.set_code(grpc.StatusCode.INTERNAL)
        request.context.set_details("of the edge")
        request.context.set_trailing_metadata(said)
        return b""

    async with proxied(answer) as target, grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary("/plumbline.v1.Scoring/Score")(b"")
        assert (await call.code(), await call.details()) == (grpc.StatusCode.INTERNAL, "of the edge")
        assert [*(await call.trailing_metadata() or ())] == said


async def sends_nothing(scope: Any, receive: Any, send: Any) -> None:
    """As Ray's proxy where a gateway died."""


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("Ray's")


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"of the edge"})


async def request(application: Any) -> httpx.Response:
    transport = httpx.ASGITransport(Explained(application))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post("/v1/score", headers={"x-request-id": "mine"})


@pytest.mark.parametrize("application", [sends_nothing, fails])
async def test_a_request_that_died_with_its_gateway_gets_503_and_a_problem(application: Any) -> None:
    response = await request(application)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["status"]) == ("unavailable", 503)
    assert problem["request_id"] == response.headers["x-request-id"] == "mine"


async def test_a_reply_of_the_edge_passes() -> None:
    response = await request(answers)
    assert (response.status_code, response.text) == (200, "of the edge")
