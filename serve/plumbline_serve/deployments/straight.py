"""Requests by REST that Ray Serve only counts.

What Ray does around each request, its context, its access log and its own metrics, takes three times what the server
takes, and as much as our edge needs to refuse one. What a gateway needs of it is the count: Ray stops a replica once
nothing is under way there, and scales by it.
"""

import inspect
from typing import Any

from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.replica import Replica

from plumbline_serve.edge.received import OWN_TIMEOUT
from plumbline_serve.request_ids import Application, Message, Receive, Send, WithoutRequestId

_RAYS = "/-/"
"""Begins the paths by which Ray looks after a replica."""
_OWN_TIMEOUT = OWN_TIMEOUT.encode()
_REST = RequestMetadata(
    request_id="", internal_request_id="", _request_protocol=RequestProtocol.HTTP, is_direct_ingress=True
)
"""All that Ray's count asks of a request."""


class StraightToTheEdge:
    """An ASGI application that has a gateway's edge answer, on the server's own loop, and all else Ray.

    Args:
        app: Ray's handling of requests, with what it is wrapped in.
        edge: The gateway's application.
        replica: The one that both are of.
    """

    def __init__(self, app: Application, edge: Application, replica: Replica) -> None:
        self._app = app
        self._edge = edge
        self._counts = replica._metrics_manager  # noqa: SLF001 - Ray shows it nowhere else

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"].startswith(_RAYS):
            await self._app(scope, receive, send)
            return
        sent = [pair for pair in scope["headers"] if pair[0] != _OWN_TIMEOUT]  # is for what comes through Ray
        self._counts.inc_num_ongoing_requests(_REST)
        try:
            await self._edge({**scope, "headers": sent}, receive, send)
        finally:
            self._counts.dec_num_ongoing_requests(_REST)


def straight(app: Application) -> Application:
    """Ray's handling with the way past it, where this process is a gateway whose edge can be called so.

    Args:
        app: Ray's handling of requests, with what it is wrapped in.
    """
    replica = _replica_behind(app)
    edge = None if replica is None else _edge_of(replica)
    return app if replica is None or edge is None else StraightToTheEdge(app, edge, replica)


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
