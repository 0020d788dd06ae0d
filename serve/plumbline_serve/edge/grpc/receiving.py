"""A call's message off the wire: waited for no longer than a body is, and held in the budget while it arrives.

gRPC gives out whole messages only, and holds the begun ones itself, as many as there are calls. So unary methods are
served as ones that take a stream (`unreadable`), whose one message is waited for here. One that does not come at
once counts as far as it may have come (`connections`), or as the largest where the system does not say.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from plumbline_models.core.errors import CapacityError, DeadlineExceededError, MalformedRequestError
from plumbline_serve.edge.grpc.calls import CallContext, peer_of
from plumbline_serve.memory.bytes_in_flight import PROMPT_S, Share
from plumbline_serve.memory.connections import Arrival

LOOK_S = 0.25
"""How often what has arrived is counted afterwards."""


async def receive(request: Any, share: Share, context: CallContext, *, max_upload_s: float) -> Any:
    """The one message of a call.

    Args:
        request: A stream of messages, or the message itself where the server has read it.
        share: Holds the message from here on.
        context: The call's, which says by which connection it comes.
        max_upload_s: How long it may take to arrive.

    Raises:
        MalformedRequestError: The call ends without one.
        CapacityError: All requests together hold as much as they may.
        DeadlineExceededError: It took too long.
    """
    if not isinstance(request, AsyncIterator):
        return request
    connection = share.connections.of(peer_of(context))
    with ExitStack() as stack:
        arrival = None if connection is None else stack.enter_context(connection.arriving())
        message = await _Reception(share, arrival).wait(request, max_upload_s)
        if arrival is not None and not arrival.is_first() and hasattr(message, "ByteSize"):
            arrival.take(message.ByteSize())
        return message


class _Reception:
    def __init__(self, share: Share, arrival: Arrival | None) -> None:
        self._share = share
        self._arrival = arrival
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: CapacityError | None = None
        self._is_waiting = True

    async def wait(self, messages: AsyncIterator[Any], max_upload_s: float) -> Any:
        try:
            async with asyncio.timeout(max_upload_s) as timeout:
                self._look_in(PROMPT_S, timeout)
                try:
                    with self._share.arriving(lambda: timeout.reschedule(self._loop.time())):
                        message = await anext(messages, None)
                finally:
                    self._is_waiting = False
                    if self._timer is not None:
                        self._timer.cancel()
        except TimeoutError as error:
            if self._refusal is not None:
                raise self._refusal from error
            self._share.check()
            raise DeadlineExceededError("The request took too long to arrive.", stage="receive") from error
        if message is None:
            raise MalformedRequestError("The call ends without a message.")
        return message

    def _look_in(self, seconds: float, timeout: asyncio.Timeout) -> None:
        # By one more turn of the loop: what arrived while it was busy is taken first.
        self._timer = self._loop.call_later(seconds, lambda: self._loop.call_soon(self._count, timeout))

    def _count(self, timeout: asyncio.Timeout) -> None:
        """Count what has come, or stop waiting for the rest where there is no room for it."""
        if not self._is_waiting:
            return
        most = self._share.max_bytes
        try:
            self._share.settle(most if self._arrival is None else self._arrival.num_bytes(most))
        except CapacityError as error:
            self._refusal = error
            self._share.give_back(self._share.num_bytes)  # its call ends: nobody else need be refused for it
            timeout.reschedule(self._loop.time())
        else:
            self._look_in(LOOK_S, timeout)
