"""What Ray Serve's HTTP servers are wrapped in, so that the edge alone says how long a request may take.

Ray finds `http_middlewares` by `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` and calls it before it starts a server.
"""

from ray import serve as ray_serve
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware

from plumbline_serve import request_ids
from plumbline_serve.deployments.loopback import keep_grpc_local
from plumbline_serve.edge.received import OWN_TIMEOUT, TIMEOUT
from plumbline_serve.request_ids import Application, Message, Receive, Send

_TIMEOUT, _OWN_TIMEOUT = TIMEOUT.encode(), OWN_TIMEOUT.encode()
_UNWATCHED = b"x-request-disconnect-disabled"


def http_middlewares() -> list[Middleware]:
    """For the servers of this process; keeps its gRPC servers to this machine, where Ray itself is."""
    keep_grpc_local()
    middlewares = request_ids.http_middlewares()
    return [*middlewares, Middleware(LeftToTheEdge)] if _is_gateway() else middlewares


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


def _is_gateway() -> bool:
    """Whether this process answers callers itself; Ray's proxies hand requests on, and must tell when one ends."""
    try:
        ray_serve.get_replica_context()
    except RayServeException:
        return False
    return True
