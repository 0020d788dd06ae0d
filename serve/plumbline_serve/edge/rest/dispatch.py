"""Which handler answers a request, by its path and method.

There are few paths, and `Paths` has found which one it is: a look into a table. What a framework does in its place,
layer by layer, took as long as a refusal takes in all.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from plumbline_models.core.errors import MethodNotAllowedError, RouteNotFoundError
from plumbline_serve.edge.rest.middleware import route_in

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Dispatch:
    """An ASGI application behind `EdgeMiddleware`, which says what route a request takes.

    Args:
        handlers: By path, as it is known, and method; GET also answers HEAD.
    """

    def __init__(self, handlers: Mapping[str, Mapping[str, Handler]]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RouteNotFoundError: There is no such path.
            MethodNotAllowedError: The path takes others.
        """
        methods = self._handlers.get(route_in(scope))
        if methods is None:
            raise RouteNotFoundError("There is no such route.")
        handler = methods.get(scope["method"])
        response = _allowing(methods, scope["method"]) if handler is None else await handler(Request(scope, receive))
        await response(scope, receive, send)


def _allowing(methods: Mapping[str, Handler], asked: str) -> Response:
    """The reply to a request that only asks which methods a path takes."""
    allowed = ", ".join(sorted({*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
    if asked != "OPTIONS":
        raise MethodNotAllowedError(f"The route takes {allowed} only.", allow=allowed)
    return Response(status_code=204, headers={"allow": allowed})
