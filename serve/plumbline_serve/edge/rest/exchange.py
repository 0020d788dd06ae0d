"""One request under way: its body off the wire in time and within the budget, and its work while the caller waits."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from plumbline_models.core.errors import DeadlineExceededError, InvalidFieldError
from plumbline_serve.edge.caller_timeout import CallerTimeout
from plumbline_serve.edge.received import OWN_TIMEOUT, TIMEOUT
from plumbline_serve.edge.rest.middleware import call_of
from plumbline_serve.memory.bytes_in_flight import BytesInFlight, Share
from plumbline_serve.settings import Limits

T = TypeVar("T")

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}")


@asynccontextmanager
async def received(
    request: Request,
    read: Callable[[Request, Limits, Share], Awaitable[T]],
    limits: Limits,
    bytes_in_flight: BytesInFlight,
) -> AsyncIterator[tuple[T, CallerTimeout]]:
    """A request's body, which is in flight until the request is answered, and how long its caller waits.

    Args:
        request: The caller's.
        read: Reads the body; takes each chunk on the share that it is given.
        limits: The service's.
        bytes_in_flight: The budget of all requests.

    Raises:
        DeadlineExceededError: The body took too long.
        CapacityError: There is no room for it.
    """
    caller_timeout = CallerTimeout(call_of(request).started_s, _header_timeout_ms(request))
    with bytes_in_flight.share() as share:
        max_s = min(limits.max_upload_s, (caller_timeout.remaining_ms(None) or math.inf) / 1000)
        try:
            async with asyncio.timeout(max_s) as timeout:
                with share.arriving(lambda: timeout.reschedule(-math.inf)):
                    body = await read(request, limits, share)
        except TimeoutError as error:
            share.check()
            raise DeadlineExceededError("The request took too long to arrive.", stage="receive") from error
        yield body, caller_timeout


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
    watching = asyncio.ensure_future(caller.watch())
    try:
        return await work
    except asyncio.CancelledError:
        if caller.is_gone:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


class _Caller:
    """Cancels a task when the caller hangs up."""

    def __init__(self, request: Request, task: "asyncio.Task[Any] | None") -> None:
        self._request = request
        self._task = task
        self.is_gone = False

    async def watch(self) -> None:
        """Wait for the end of the connection."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        if self._task is not None:
            self._task.cancel()
