"""What Ray Serve's HTTP servers are wrapped in, so that the edge alone says how long a request may take.

Ray's proxies answer for a gateway that died with a request, too: as the edge would, so that clients try again.

Ray finds `http_middlewares` by `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` and calls it before it starts a server.
"""

import json
import logging

from ray import serve as ray_serve
from ray.serve.exceptions import RayServeException
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import Response

from plumbline_serve import request_ids
from plumbline_serve.deployments.loopback import keep_grpc_local
from plumbline_serve.edge.grpc.unreached import unreached
from plumbline_serve.edge.problems import http_headers, problem
from plumbline_serve.edge.received import OWN_TIMEOUT, TIMEOUT
from plumbline_serve.request_ids import Application, Message, Receive, Send, request_id
from plumbline_wire import REQUEST_ID_KEY

log = logging.getLogger(__name__)

_TIMEOUT, _OWN_TIMEOUT = TIMEOUT.encode(), OWN_TIMEOUT.encode()
_UNWATCHED = b"x-request-disconnect-disabled"


def http_middlewares() -> list[Middleware]:
    """For the servers of this process; keeps its gRPC servers to this machine, where Ray itself is."""
    keep_grpc_local()
    middlewares = request_ids.http_middlewares()  # what comes first stands nearest to Ray's own handling
    if not _is_gateway():
        return [Middleware(Explained), *middlewares]
    from plumbline_serve.deployments.straight import straight  # noqa: PLC0415 - Ray's proxies have no replica

    return [*middlewares, Middleware(LeftToTheEdge), Middleware(straight)]


class LeftToTheEdge:
    """An ASGI application whose requests Ray neither times nor watches.

    Ray answers 408 in plain text when the caller's time is up, where the edge has a problem for it. And while it
    watches for the end of a connection, it reads the body ahead of whoever wants it, without a bound.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            sent = [pair for pair in scope["headers"] if pair[0] not in (_OWN_TIMEOUT, _UNWATCHED)]
            kept = [(_OWN_TIMEOUT if name == _TIMEOUT else name, value) for name, value in sent]
            scope = {**scope, "headers": [*kept, (_UNWATCHED, b"?1")]}
        await self._app(scope, receive, send)


class Explained:
    """An ASGI application that answers 503 where a gateway died with a request: Ray answers nothing, its server 500."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        is_answered = scope["type"] != "http"

        async def send_on(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            if is_answered:
                raise
            log.exception("Ray Serve failed with a request")
        if not is_answered:
            error, named = unreached(), request_id(Headers(scope=scope).get(REQUEST_ID_KEY))
            headers = http_headers(error) | {REQUEST_ID_KEY: named}
            body = json.dumps(problem(error, named))
            await Response(body, status_code=error.status, headers=headers)(scope, receive, send)


def _is_gateway() -> bool:
    """Whether this process answers callers itself; Ray's proxies hand requests on, and must tell when one ends."""
    try:
        ray_serve.get_replica_context()
    except RayServeException:
        return False
    return True
