"""The REST clients, over httpx with pooled connections."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
from pydantic import BaseModel
from typing_extensions import Unpack

from plumbline_client import addresses, rest_wire
from plumbline_client.calls import Call, Core
from plumbline_client.errors import (
    ConnectError,
    PlumblineClientError,
    UnexpectedReplyError,
    UsageError,
)
from plumbline_client.kept_calls import AsyncKept, SyncKept
from plumbline_client.options import ClientOptions, Profile
from plumbline_client.requests import Request
from plumbline_client.rest_wire import HttpReply

T = TypeVar("T", bound=BaseModel)
_HUNG_UP = ("Server disconnected", "peer closed connection")  # what httpx says where a reply only broke off
_CONNECT_S = 5.0  # a service that takes longer to accept a connection is tried again


class Client(SyncKept):
    """A blocking REST client.

    Args:
        base_url: Where the service answers: `http://localhost:8000`; without a scheme, `http://` is meant.
        http: An httpx client of the caller's (own TLS, proxies, limits); it stays the caller's to close.
        sleep: Waits between attempts.
        options: `api_key`, `timeout_ms`, `retry`, `headers`, `tls`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._base_url = addresses.base_url(base_url)
        super().__init__(Core(Profile(**options), addresses.shown(self._base_url)), sleep)
        self._http = http or httpx.Client(verify=_verify(self._base_url, self._core))
        self._owns_http = http is None

    def __repr__(self) -> str:
        return f"Client({self._core.address!r})"

    def _disconnect(self) -> None:
        if self._owns_http:
            self._http.close()

    def _attempt(self, request: Request[T], call: Call) -> T:
        _check_open(self._http)
        http_request = rest_wire.encode(request, call)
        left_s = call.remaining_s()
        try:
            response = self._http.request(
                http_request.method,
                self._base_url + http_request.path,
                content=http_request.body,
                headers=http_request.headers,
                timeout=_timeout(left_s),
            )
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise _no_reply(error, call) from error
        return rest_wire.decode(request, _reply(response), call.address)


class AsyncClient(AsyncKept):
    """An asyncio REST client; arguments as for `Client`."""

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._base_url = addresses.base_url(base_url)
        super().__init__(Core(Profile(**options), addresses.shown(self._base_url)), sleep)
        self._http = http or httpx.AsyncClient(verify=_verify(self._base_url, self._core))
        self._owns_http = http is None

    def __repr__(self) -> str:
        return f"AsyncClient({self._core.address!r})"

    async def _disconnect(self) -> None:
        if self._owns_http:
            await self._http.aclose()

    async def _attempt(self, request: Request[T], call: Call) -> T:
        _check_open(self._http)
        http_request = rest_wire.encode(request, call)
        left_s = call.remaining_s()
        try:
            response = await asyncio.wait_for(
                self._http.request(
                    http_request.method,
                    self._base_url + http_request.path,
                    content=http_request.body,
                    headers=http_request.headers,
                    timeout=_timeout(left_s),
                ),
                left_s,
            )
        except asyncio.TimeoutError as error:  # of Python 3.10, another than the built-in one
            raise call.overdue() from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise _no_reply(error, call) from error
        return rest_wire.decode(request, _reply(response), call.address)


def _verify(base_url: str, core: Core) -> ssl.SSLContext | bool:
    """What httpx checks the service's certificate by."""
    tls = core.profile.tls
    if tls is None:
        return True
    if not base_url.startswith("https://"):
        raise UsageError("With tls the base URL is one of https://.")
    return tls.context()


def _timeout(left_s: float | None) -> httpx.Timeout:
    return httpx.Timeout(left_s, connect=_CONNECT_S if left_s is None else min(left_s, _CONNECT_S))


def _reply(response: httpx.Response) -> HttpReply:
    return HttpReply(response.status_code, response.headers, response.content)


def _check_open(http: httpx.Client | httpx.AsyncClient) -> None:
    if http.is_closed:
        raise UsageError("The httpx client is closed.")


def _no_reply(error: httpx.HTTPError | httpx.InvalidURL | ssl.SSLError, call: Call) -> PlumblineClientError:
    """Say what kept the reply away; httpx errors name no headers, so nothing secret is in them.

    An `ssl.SSLError` comes as it is where a server refuses the client's certificate only after the handshake (TLS 1.3).
    """
    reason = (str(error) or type(error).__name__).rstrip(".")
    if _is_of_tls(error):
        return UnexpectedReplyError(f"There is no TLS with {call.address}: {reason}.", request_id=call.request_id)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return ConnectError(f"{call.address} was not reached: {reason}.", request_id=call.request_id)
    if isinstance(error, httpx.TimeoutException):
        return call.overdue()
    if isinstance(error, httpx.RemoteProtocolError) and not reason.startswith(_HUNG_UP):
        sentence = f"What answers at {call.address} does not speak HTTP: {reason}."
        return UnexpectedReplyError(sentence, request_id=call.request_id)
    return ConnectError(f"{call.address} did not answer: {reason}.", request_id=call.request_id)


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
