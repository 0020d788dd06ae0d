"""Which requests go past Ray's handling, and that Ray counts them."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.proxy_request_response import gRPCStreamingType
from ray.serve._private.replica import Replica

from plumbline_serve.deployments.http_servers import LeftToTheEdge
from plumbline_serve.deployments.straight import straight
from plumbline_serve.request_ids import WithoutRequestId
from plumbline_wire.v1 import scoring_pb2 as wire

UNARY, STREAM = gRPCStreamingType.UNARY_UNARY, gRPCStreamingType.STREAM_STREAM


class Counts:
    """As Ray's replicas have them."""

    def __init__(self) -> None:
        self.num_under_way = 0

    def inc_num_ongoing_requests(self, _metadata: Any) -> None:
        self.num_under_way += 1

    def dec_num_ongoing_requests(self, _metadata: Any) -> None:
        self.num_under_way -= 1


class Gateway:
    """Answers RPCs with what it was asked, and how many were under way."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    async def Score(self, request: wire.Item, grpc_context: str) -> wire.Item:  # noqa: N802 - named by the schema
        return wire.Item(text=f"{request.text}, {grpc_context}, {self._counts.num_under_way} under way")


class HandledBy(list[str]):
    """Who was given a request."""

    def application(self, name: str, counts: Counts | None = None, *, fails: bool = False) -> Any:
        async def serve(_scope: Any, _receive: Any, _send: Any) -> None:
            self.append(name if counts is None else f"{name} as {counts.num_under_way} under way")
            if fails:
                raise RuntimeError(name)

        return serve


class Rays(Replica):
    """A replica whose own handling says that it was asked."""

    handled: HandledBy

    async def serve(self, _scope: Any, _receive: Any, _send: Any) -> None:
        self.handled.append("Ray")


def replica(handled: HandledBy, counts: Counts, **changes: Any) -> Any:
    """Of a gateway."""
    made: Any = Rays.__new__(Rays)
    made.handled = handled
    made._metrics_manager = counts
    made._route_prefix = changes.get("prefix", "/")
    made._user_callable_wrapper = SimpleNamespace(
        _run_user_code_in_separate_thread=changes.get("is_threaded", False), user_callable=Gateway(counts)
    )
    edge = handled.application("edge", counts, fails=changes.get("fails", False))
    made._user_callable_asgi_app = edge if changes.get("is_bare") else WithoutRequestId(edge)
    return made


async def ask(made: Any, path: str = "/v1/score", kind: str = "http") -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await straight(LeftToTheEdge(made.serve))({"type": kind, "path": path, "headers": []}, nothing, nothing)


async def test_a_request_goes_to_the_edge_and_is_counted_meanwhile() -> None:
    handled, counts = HandledBy(), Counts()
    await ask(replica(handled, counts))
    assert (handled, counts.num_under_way) == (["edge as 1 under way"], 0)


async def test_a_request_that_fails_is_under_way_no_longer() -> None:
    handled, counts = HandledBy(), Counts()
    with pytest.raises(RuntimeError, match="edge"):
        await ask(replica(handled, counts, fails=True))
    assert counts.num_under_way == 0


@pytest.mark.parametrize(("path", "kind"), [("/-/healthz", "http"), ("/-/routes", "http"), ("/", "websocket")])
async def test_what_ray_asks_a_replica_itself_stays_with_ray(path: str, kind: str) -> None:
    handled = HandledBy()
    await ask(replica(handled, Counts()), path, kind)
    assert handled == ["Ray"]


@pytest.mark.parametrize("change", [{"prefix": "/scores"}, {"is_threaded": True}, {"is_bare": True}])
async def test_an_edge_that_cannot_be_called_so_is_called_by_ray(change: dict[str, Any]) -> None:
    handled = HandledBy()
    await ask(replica(handled, Counts(), **change))
    assert handled == ["Ray"]


async def test_an_rpc_goes_to_the_gateway_with_grpcs_own_context_and_is_counted_meanwhile() -> None:
    handled, counts = HandledBy(), Counts()
    made = replica(handled, counts)
    straight(LeftToTheEdge(made.serve))
    handle = made._direct_ingress_service_handler_factory("/plumbline.v1.Scoring/Score", UNARY)
    reply = wire.Item.FromString(await handle(wire.Item(text="asked"), "a context"))
    assert (reply.text, counts.num_under_way) == ("asked, a context, 1 under way", 0)


@pytest.mark.parametrize(
    ("name", "kind"), [("/ray.serve.RayServeAPIService/Healthz", UNARY), ("/plumbline.v1.Scoring/ScoreStream", STREAM)]
)
async def test_rpcs_that_stream_and_rays_own_stay_with_ray(name: str, kind: gRPCStreamingType) -> None:
    made = replica(HandledBy(), Counts())
    rays = made._direct_ingress_service_handler_factory(name, kind).__qualname__
    straight(LeftToTheEdge(made.serve))
    assert made._direct_ingress_service_handler_factory(name, kind).__qualname__ == rays
