"""The outermost layer of REST: names every request, checks the key, turns every error into a problem, counts."""

import asyncio
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import cast

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plumbline_serve.concurrency import release
from plumbline_serve.edge.api_keys import ApiKeys
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.edge.problems import http_headers, problem, refuse, report
from plumbline_serve.request_context import ANYONE, Caller
from plumbline_serve.request_ids import request_id
from plumbline_wire import REQUEST_ID_KEY

UNMATCHED = "unmatched"
GONE = "499"  # what proxies write where the caller went away before the reply
_CALL = "plumbline_call"


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the middleware sees it."""

    request_id: str
    started_s: float
    """On the monotonic clock."""
    caller: Caller = ANYONE


def call_of(request: Request) -> Call:
    """The call that a request belongs to."""
    return cast("Call", request.scope[_CALL])


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths that there are; all others are counted as one, for they come from outside."""

    known: AbstractSet[str]
    open: AbstractSet[str]
    """Those that need no key."""


class EdgeMiddleware:
    """Pure ASGI; nothing gets past it without a request id, and no exception either."""

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, paths: Paths, observer: EdgeObserver) -> None:
        self._app = app
        self._keys = keys
        self._paths = paths
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer where that fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        call = Call(request_id(headers.get(REQUEST_ID_KEY)), time.monotonic())
        reply = _Reply(send, call.request_id, has_body=scope["method"] != "HEAD")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            if path not in self._paths.open:
                call = replace(call, caller=self._keys.check(headers.get("authorization")))
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await self._app({**scope, _CALL: call, "method": method}, receive, reply.send)
        except ClientDisconnect as gone:
            release(gone)  # nobody is there to be told
        except asyncio.CancelledError as stopped:
            release(stopped)
            raise
        except Exception as error:
            if reply.status is not None:
                report(error, call.request_id)
                raise
            await self._refuse(error, call)(scope, receive, reply.send)
        finally:
            route = path if path in self._paths.known else UNMATCHED
            code = GONE if reply.status is None else str(reply.status)
            self._observer.request(route, "rest", code, time.monotonic() - call.started_s)

    def _refuse(self, error: Exception, call: Call) -> Response:
        visible = refuse(error, call.request_id, self._observer)
        body = orjson.dumps(problem(visible, call.request_id))
        return Response(body, status_code=visible.status, headers=http_headers(visible))


class _Reply:
    """Adds what every reply carries, and drops the body where the caller asked for the head alone."""

    def __init__(self, send: Send, request_id: str, *, has_body: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._has_body = has_body
        self.status: int | None = None
        """None: not begun."""

    async def send(self, message: Message) -> None:
        """Pass a message of the reply on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_KEY] = self._request_id
            headers["x-content-type-options"] = "nosniff"
        elif message["type"] == "http.response.body" and not self._has_body:
            message = {**message, "body": b""}
        await self._send(message)
