"""One request under way: its body off the wire in time and within the budget, and its work while the caller waits."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request

from plumbline_models.core.errors import DeadlineExceededError, InvalidFieldError
from plumbline_serve.edge.caller_timeout import CallerTimeout
from plumbline_serve.edge.received import OWN_TIMEOUT, TIMEOUT
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.memory.bytes_in_flight import Share
from plumbline_serve.settings import Limits

T = TypeVar("T")

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}")


class Held(Generic[T]):
    """What is read of a request, as a context: its bytes are in flight until that is left.

    A plain class: a generator as a context costs the event loop four times as much.

    Args:
        share: What the request holds of the bytes in flight.
        read: Reads it, and takes each chunk on the share.
    """

    def __init__(self, share: Share, read: Callable[[Share], Awaitable[T]]) -> None:
        self._share = share
        self._read = read

    async def __aenter__(self) -> T:
        try:
            return await self._read(self._share)
        except BaseException:
            self._share.close()
            raise

    async def __aexit__(self, *exception: object) -> None:
        self._share.close()


async def received(
    request: Request, read: Callable[[Request, Limits, Share], Awaitable[T]], limits: Limits, share: Share
) -> tuple[T, CallerTimeout]:
    """A request's body, and how long its caller waits.

    Args:
        request: The caller's.
        read: Reads the body; takes each chunk on the share that it is given.
        limits: The service's.
        share: What the request holds of the bytes in flight.

    Raises:
        DeadlineExceededError: The body took too long.
        CapacityError: There is no room for it.
    """
    caller_timeout = CallerTimeout(call_of(request).started_s, _header_timeout_ms(request))
    max_s = min(limits.max_upload_s, (caller_timeout.remaining_ms(None) or math.inf) / 1000)
    try:
        async with asyncio.timeout(max_s) as timeout:
            with share.arriving(lambda: timeout.reschedule(-math.inf)):
                return await read(request, limits, share), caller_timeout
    except TimeoutError as error:
        share.check()
        raise DeadlineExceededError("The request took too long to arrive.", stage="receive") from error


def _header_timeout_ms(request: Request) -> float | None:
    value = request.headers.get(TIMEOUT, request.headers.get(OWN_TIMEOUT))
    if value is None:
        return None
    seconds = float(value) if _SECONDS.fullmatch(value) else math.nan
    if not seconds > 0:
        raise InvalidFieldError(f"The header {TIMEOUT} must be a number of seconds above 0.")
    return seconds * 1000


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work while the caller waits for it; once the caller hangs up, cancel it.

    Args:
        request: The caller's, whose body is read.
        work: What is done for it.

    Raises:
        ClientDisconnect: The caller hung up.
    """
    caller = _Caller(request, asyncio.current_task())
    watching = asyncio.get_running_loop().call_soon(caller.watch)  # not before the work waits: a refusal never does
    try:
        return await work
    except asyncio.CancelledError:
        if caller.is_gone:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
        caller.let_go()


class _Caller:
    """Cancels a task when the caller hangs up."""

    def __init__(self, request: Request, task: "asyncio.Task[Any] | None") -> None:
        self._request = request
        self._task = task
        self._watching: asyncio.Task[None] | None = None
        self.is_gone = False

    def watch(self) -> None:
        """Wait for the end of the connection from here on."""
        self._watching = asyncio.create_task(self._until_gone())

    def let_go(self) -> None:
        """Wait no longer."""
        if self._watching is not None:
            self._watching.cancel()

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        if self._task is not None:
            self._task.cancel()
