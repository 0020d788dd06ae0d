"""Edges in spans: a REST application, the methods of a gRPC edge, and what says how a request ended."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from functools import partial
from typing import Any, Protocol, TypeAlias

from opentelemetry.trace import Span, StatusCode, get_current_span

from plumbline_serve.request_ids import HEADER
from plumbline_wire import REQUEST_ID_KEY

ServerSpan: TypeAlias = Callable[..., AbstractContextManager[Span]]
REQUEST_ID = "plumbline.request_id"
_FAILED = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "DATA_LOSS"})
"""Codes of gRPC that mark a server's span as failed (OpenTelemetry, semantic conventions for gRPC)."""


class Observer(Protocol):
    """What the edges tell the metrics; see `plumbline_serve.edge.observe`."""

    def request(self, route: str, protocol: Any, code: str, seconds: float) -> None:
        """A request was answered."""
        ...

    def rejection(self, reason: str) -> None:
        """A request was refused as a whole."""
        ...

    def expired(self, stage: str) -> None:
        """A deadline passed in this stage."""
        ...

    def in_flight(self, num_bytes: int) -> None:
        """The requests under way hold so many bytes."""
        ...

    def limits_failed(self) -> None:
        """What keys have used could not be asked for."""
        ...


class TracedObserver:
    """Also says on the span of the request how it ended.

    Args:
        observer: What it tells.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def request(self, route: str, protocol: Any, code: str, seconds: float) -> None:
        """As `EdgeObserver.request`.

        Args:
            route: As there.
            protocol: As there.
            code: As there.
            seconds: As there.
        """
        span = get_current_span()
        span.update_name(route)
        if protocol == "grpc":
            span.set_attributes({"rpc.system": "grpc", "rpc.method": route, "rpc.grpc.status_code": code})
            is_failed = code in _FAILED
        else:
            span.set_attributes({"http.route": route, "http.response.status_code": int(code)})
            is_failed = code >= "500"
        if is_failed:
            span.set_status(StatusCode.ERROR)
        self._observer.request(route, protocol, code, seconds)

    def rejection(self, reason: str) -> None:
        """As `EdgeObserver.rejection`."""
        get_current_span().set_attribute("plumbline.refused", reason)
        self._observer.rejection(reason)

    def expired(self, stage: str) -> None:
        """As `EdgeObserver.expired`."""
        self._observer.expired(stage)

    def in_flight(self, num_bytes: int) -> None:
        """As `EdgeObserver.in_flight`."""
        self._observer.in_flight(num_bytes)

    def limits_failed(self) -> None:
        """As `EdgeObserver.limits_failed`."""
        self._observer.limits_failed()


class TracedApplication:
    """An ASGI application, each request of which is in a span.

    Args:
        app: The application.
        server_span: Begins one.
    """

    def __init__(self, app: Any, server_span: ServerSpan) -> None:
        self._app = app
        self._server_span = server_span

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        method = {"http.request.method": scope["method"]}
        with self._server_span(scope["method"], headers, **method) as span:

            async def send_noted(message: Any) -> None:
                if message["type"] == "http.response.start":
                    for name, value in message["headers"]:
                        if name == HEADER:
                            span.set_attribute(REQUEST_ID, value.decode("latin-1"))
                await send(message)

            await self._app(scope, receive, send_noted)


class TracedRpcs:
    """The methods of a gRPC edge, each call of which is in a span; the context is a method's last argument.

    Args:
        edge: The edge.
        server_span: Begins one.
    """

    def __init__(self, edge: Any, server_span: ServerSpan) -> None:
        self._edge = edge
        self._server_span = server_span

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._edge, name)
        return partial(self._stream if inspect.isasyncgenfunction(method) else self._call, method)

    def _span(self, method: Any, context: Any) -> AbstractContextManager[Span]:
        metadata = [(key, value) for key, value in context.invocation_metadata() if isinstance(value, str)]
        sent = dict(metadata).get(REQUEST_ID_KEY)
        return self._server_span(method.__name__, metadata, **({} if sent is None else {REQUEST_ID: sent}))

    async def _call(self, method: Any, *arguments: Any) -> Any:
        with self._span(method, arguments[-1]):
            return await method(*arguments)

    async def _stream(self, method: Any, *arguments: Any) -> AsyncIterator[Any]:
        with self._span(method, arguments[-1]):
            async with aclosing(method(*arguments)) as replies:
                async for reply in replies:
                    yield reply
