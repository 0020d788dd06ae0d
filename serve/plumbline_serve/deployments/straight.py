"""Requests that Ray Serve only counts.

What Ray does around each request, its context, its access log and its own metrics, takes three times what the server
takes, and as much as our edge needs to refuse one. What a gateway needs of it is the count: Ray stops a replica once
nothing is under way there, and scales by it.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio
from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.proxy_request_response import gRPCStreamingType
from ray.serve._private.replica import Replica

from plumbline_serve.edge.received import OWN_TIMEOUT
from plumbline_serve.request_ids import Application, Message, Receive, Send, WithoutRequestId

_RAYS, _RAYS_RPCS = "/-/", "/ray.serve."
"""Begin what Ray itself asks a replica."""
_OWN_TIMEOUT = OWN_TIMEOUT.encode()


class Counted:
    """A replica's requests under way, as Ray counts them.

    Args:
        replica: It.
        protocol: Of the requests.
    """

    def __init__(self, replica: Replica, protocol: RequestProtocol) -> None:
        self._counts = replica._metrics_manager  # noqa: SLF001 - Ray shows it nowhere else
        self._request = RequestMetadata("", "", _request_protocol=protocol, is_direct_ingress=True)

    @contextmanager
    def one(self) -> Iterator[None]:
        """One more, until this is left."""
        self._counts.inc_num_ongoing_requests(self._request)
        try:
            yield
        finally:
            self._counts.dec_num_ongoing_requests(self._request)


class StraightToTheEdge:
    """An ASGI application that has a gateway's edge answer, on the server's own loop, and all else Ray.

    Args:
        app: Ray's handling of requests, with what it is wrapped in.
        edge: The gateway's application.
        counted: Hears of the requests.
    """

    def __init__(self, app: Application, edge: Application, counted: Counted) -> None:
        self._app = app
        self._edge = edge
        self._counted = counted

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"].startswith(_RAYS):
            await self._app(scope, receive, send)
            return
        sent = [pair for pair in scope["headers"] if pair[0] != _OWN_TIMEOUT]  # is for what comes through Ray
        with self._counted.one():
            await self._edge({**scope, "headers": sent}, receive, send)


def straight(app: Application) -> Application:
    """Ray's handling with the way past it, where this process is a gateway whose edge can be called so.

    The gateway's gRPC server, which starts after that of HTTP, then calls the gateway's methods itself too, but for
    those that stream.

    Args:
        app: Ray's handling of requests, with what it is wrapped in.
    """
    replica = _replica_behind(app)
    edge = None if replica is None else _edge_of(replica)
    if replica is None or edge is None:
        return app
    replica._direct_ingress_service_handler_factory = _rpcs_of(replica)  # type: ignore[method-assign]  # noqa: SLF001
    return StraightToTheEdge(app, edge, Counted(replica, RequestProtocol.HTTP))


def _rpcs_of(replica: Replica) -> Callable[..., Any]:
    """What makes the handler of an RPC from its name and kind, in the place of Ray's."""
    made_by_ray = replica._direct_ingress_service_handler_factory  # noqa: SLF001
    gateway = replica._user_callable_wrapper.user_callable  # noqa: SLF001
    counted = Counted(replica, RequestProtocol.GRPC)

    def handler_of(service_method: str, streaming_type: gRPCStreamingType) -> Any:
        if streaming_type != gRPCStreamingType.UNARY_UNARY or service_method.startswith(_RAYS_RPCS):
            return made_by_ray(service_method, streaming_type)
        name = service_method.rsplit("/", 1)[-1]

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            with counted.one():
                reply = await getattr(gateway, name)(request, context)
                content: bytes = reply.SerializeToString()
                return content

        return handle

    return handler_of


def _edge_of(replica: Replica) -> Application | None:
    """The edge, where requests may go to it: all paths are its own, and the server's loop is the one it runs on."""
    served, code = replica._user_callable_asgi_app, replica._user_callable_wrapper  # noqa: SLF001
    is_elsewhere = code._run_user_code_in_separate_thread or replica._route_prefix not in (None, "/")  # noqa: SLF001
    return served.app if isinstance(served, WithoutRequestId) and not is_elsewhere else None


def _replica_behind(app: Any) -> Replica | None:
    """Whose method is at the bottom of an application and what it is wrapped in."""
    while app is not None and not inspect.ismethod(app):
        app = getattr(app, "_app", None)
    replica = getattr(app, "__self__", None)
    return replica if isinstance(replica, Replica) else None
