"""A call's message off the wire: waited for no longer than a body is, and held in the budget while it arrives.

gRPC gives out whole messages only, and holds the begun ones itself, as many as there are calls. So unary methods are
served as ones that take a stream (`unreadable`), whose one message is waited for here. One that does not come at
once counts as large as a request may be, for gRPC does not say how much of it is there.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from plumbline_models.core.errors import CapacityError, DeadlineExceededError, MalformedRequestError
from plumbline_serve.bytes_in_flight import Share

PROMPT_S = 0.5
"""What comes within is counted once it is there: it is small, or the link is fast."""


async def receive(request: Any, share: Share, *, max_upload_s: float) -> Any:
    """The one message of a call.

    Args:
        request: A stream of messages, or the message itself where the server has read it.
        share: Holds the message from here on.
        max_upload_s: How long it may take to arrive.

    Raises:
        MalformedRequestError: The call ends without one.
        CapacityError: All requests together hold as much as they may.
        DeadlineExceededError: It took too long.
    """
    return await _Reception(share).wait(request, max_upload_s) if isinstance(request, AsyncIterator) else request


class _Reception:
    def __init__(self, share: Share) -> None:
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._refusal: CapacityError | None = None
        self._is_waiting = True

    async def wait(self, messages: AsyncIterator[Any], max_upload_s: float) -> Any:
        try:
            async with asyncio.timeout(max_upload_s) as timeout:
                # By one more turn of the loop: what arrived while it was busy is taken first.
                timer = self._loop.call_later(PROMPT_S, lambda: self._loop.call_soon(self._count, timeout))
                try:
                    with self._share.arriving(lambda: timeout.reschedule(self._loop.time())):
                        message = await anext(messages, None)
                finally:
                    self._is_waiting = False
                    timer.cancel()
        except TimeoutError as error:
            if self._refusal is not None:
                raise self._refusal from error
            self._share.check()
            raise DeadlineExceededError("The request took too long to arrive.", stage="receive") from error
        if message is None:
            raise MalformedRequestError("The call ends without a message.")
        return message

    def _count(self, timeout: asyncio.Timeout) -> None:
        """Count the message as one of the largest, or stop waiting for it where there is no room for one."""
        if not self._is_waiting:
            return
        try:
            self._share.take_most()
        except CapacityError as error:
            self._refusal = error
            timeout.reschedule(self._loop.time())
