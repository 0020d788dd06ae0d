"""The outermost layer of REST: names every request, checks the key, turns every error into a problem, counts."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.edge.access import NO_KEY, Access, Grant, Scope
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.edge.problems import http_headers, problem, refuse, report
from plumbline_serve.edge.received import RECEIVED, waited_s
from plumbline_serve.edge.request_log import Answered, RequestLog
from plumbline_serve.edge.rest.browsers import Browsers
from plumbline_serve.request_ids import HEADER, request_id
from plumbline_serve.scheduling.concurrency import release
from plumbline_wire import REQUEST_ID_KEY

UNMATCHED = "unmatched"
LINGER_S, LINGER_BYTES = 5.0, 64 * 2**20
"""How much of a request is still read once it was refused: a connection that is closed over unread bytes is reset, and
its caller may never see the reply."""
GONE = "499"  # what proxies write where the caller went away before the reply
_CALL = "plumbline_call"


Refusal: TypeAlias = Callable[[PlumblineError, str], Response]
"""Writes the reply to a request that fails as a whole: why, and the request's id."""


def problem_reply(error: PlumblineError, request_id: str) -> Response:
    """The refusal of our own routes.

    Args:
        error: Why the request fails.
        request_id: Its id.
    """
    return Response(orjson.dumps(problem(error, request_id)), status_code=error.status, headers=http_headers(error))


@dataclass(slots=True)
class Call:
    """One request as the middleware sees it."""

    noted: Answered
    """What its line of the log will say."""
    started_s: float
    """On the monotonic clock; before this process saw the request, where it waited on its way."""
    refusal: Refusal = problem_reply
    """A handler sets another where the body says which protocol the caller speaks."""
    grant: Grant = NO_KEY
    """What its caller was let in with."""

    @property
    def request_id(self) -> str:
        """The caller's, or a new one."""
        return self.noted.request_id


def route_in(scope: Connection) -> str:
    """The route of a request that came through the middleware, as `Paths` has it."""
    return cast("Call", scope[_CALL]).noted.route


def call_of(request: Request) -> Call:
    """The call that a request belongs to."""
    return cast("Call", request.scope[_CALL])


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths that there are; all others are counted as one, for they come from outside."""

    known: AbstractSet[str]
    open: AbstractSet[str]
    """Those that need no key."""
    scopes: Mapping[tuple[str, str], Scope]
    """What the others need, and what an open one needs of a POST, by method and path; any key will do for paths that
    there are not."""
    patterns: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    """Of the known paths with names in them, by the path as it is known."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """Of those that do not answer with a problem."""

    def find(self, path: str) -> tuple[str, Mapping[str, str]]:
        """What a path is counted as, and the names in it."""
        if path in self.known:
            return path, {}
        for known, pattern in self.patterns.items():
            if (found := pattern.match(path)) is not None:
                return known, found.groupdict()
        return UNMATCHED, {}

    def scope_of(self, method: str, route: str) -> tuple[bool, Scope | None]:
        """Whether a request needs a key, and one of which scope; None: any.

        Args:
            method: Of the request.
            route: As `find` has it.
        """
        needed = self.scopes.get(("GET" if method == "HEAD" else method, route))
        return route not in self.open or (method == "POST" and needed is not None), needed


class EdgeMiddleware:
    """Pure ASGI; nothing gets past it without a request id, and no exception either."""

    def __init__(
        self, app: ASGIApp, *, access: Access, browsers: Browsers, paths: Paths, observer: EdgeObserver
    ) -> None:
        self._app = app
        self._access = access
        self._browsers = browsers
        self._paths = paths
        self._observer = observer
        self._log = RequestLog(observer)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer where that fails."""
        if scope["type"] != "http":
            await _decline(scope, send)
            return
        headers = Headers(scope=scope)
        route, names = self._paths.find(scope["path"].removeprefix(scope.get("root_path", "")))
        call = Call(
            noted=Answered(request_id(headers.get(REQUEST_ID_KEY)), route, "rest", GONE, 0.0),
            started_s=time.monotonic() - waited_s(headers.get(RECEIVED)),
            refusal=self._paths.refusals.get(route, problem_reply),
        )
        body = _Body(receive, headers)
        reply = _Reply(send, call, self._browsers, headers.get("origin"), body=body)
        reply.has_body = scope["method"] != "HEAD"
        try:
            if (allowed := self._browsers.preflight(scope["method"], headers)) is not None:
                await Response(status_code=204, headers=allowed)(scope, receive, reply.send)
                return
            needs_key, needed = self._paths.scope_of(scope["method"], route)
            if needs_key:
                call.grant = self._access.check(headers.get("authorization"), needed)
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            async with call.grant.entered():
                inner = {**scope, _CALL: call, "method": method, "path_params": names}
                await self._app(inner, body.receive, reply.send)
        except ClientDisconnect as gone:
            release(gone)  # nobody is there to be told
        except asyncio.CancelledError as stopped:
            release(stopped)
            raise
        except Exception as error:
            if reply.status is not None:
                report(error, call.request_id)
                raise
            call.noted.refusal = refuse(error, call.request_id, self._observer)
            await call.refusal(call.noted.refusal, call.request_id)(scope, body.receive, reply.send)
        finally:
            call.noted.code = GONE if reply.status is None else str(reply.status)
            call.noted.seconds, call.noted.caller = time.monotonic() - call.started_s, call.grant.caller.tenant
            self._log.answered(call.noted)


async def _decline(scope: Connection, send: Send) -> None:
    """There are no web sockets; a server that asks to start or stop something has nothing to wait for."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})


class _Body:
    """Hands the request's body on, and knows whether any of it is still to come."""

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        self.is_over = "transfer-encoding" not in headers and headers.get("content-length", "0").strip() == "0"

    async def receive(self) -> Message:
        """The next message of the request."""
        message = await self._receive()
        if not message.get("more_body", False):  # the last part, or the end of the connection
            self.is_over = True
        return message

    async def drop(self) -> None:
        """Read what is still to come, for a moment."""
        num_bytes = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self.is_over and num_bytes < LINGER_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))


class _Reply:
    """Adds what every reply carries, and drops the body where the caller asked for the head alone.

    A reply that begins before the request has ended also ends the connection: what is still to come of a refused
    request would else be read for as long as the caller likes to send.
    """

    def __init__(self, send: Send, call: Call, browsers: Browsers, origin: str | None, *, body: _Body) -> None:
        self._send = send
        self._call = call
        self._browsers = browsers
        self._origin = origin
        self._body = body
        self.has_body = True
        self.status: int | None = None
        """None: not begun."""

    async def send(self, message: Message) -> None:
        """Pass a message of the reply on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(name, value) for name, value in message["headers"] if name != HEADER]
            granted = [(name.encode(), value.encode()) for name, value in self._call.grant.headers()]
            added = self._browsers.headers(self._origin, own)
            last = [] if self._body.is_over else [(b"connection", b"close")]
            message = {**message, "headers": [*own, *granted, *added, (HEADER, self._call.request_id.encode()), *last]}
        elif message["type"] == "http.response.body":
            if not self.has_body:
                message = {**message, "body": b""}
            if not message.get("more_body", False) and not self._body.is_over:
                await self._send({**message, "more_body": True})
                await self._body.drop()
                message = {**message, "body": b""}
        await self._send(message)
