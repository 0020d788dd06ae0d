"""A stream's messages off the wire: waited for as long as their sender likes, and counted as far as they have arrived.

gRPC gives out whole messages only and holds the begun one of each stream. Where a stream has a connection to itself, as
HAProxy gives it (`OWN_CONNECTION`), what came over it since the last message is the begun one (`connections`). So a
silent stream counts next to nothing, and a begun message what it holds.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_serve.edge.grpc.receiving import LOOK_S
from plumbline_serve.memory.bytes_in_flight import PROGRESS_BYTES, BytesInFlight, Share
from plumbline_serve.memory.connections import Arrival, Connection
from plumbline_serve.settings import Limits

Q = TypeVar("Q")


class StreamMessages(AsyncIterator[Q], Generic[Q]):
    """The messages of a stream; the next one is not read before there is room for it.

    Raises:
        CapacityError: What has arrived of the next one finds no room, or it was slow while others needed the room.
        DeadlineExceededError: It was begun, and took too long.
    """

    def __init__(
        self,
        messages: AsyncIterator[Q],
        budget: BytesInFlight,
        limits: Limits,
        *,
        connection: Connection | None,
        is_own: bool,
    ) -> None:
        """Read nothing yet.

        Args:
            messages: As the server gives them.
            budget: Holds what has arrived of a begun one.
            limits: How long a message may be under way, and how large it may be.
            connection: By which they come; None: the system does not say.
            is_own: Whether no other call shares it; else begun messages do not count.
        """
        self._messages = messages
        self._budget = budget
        self._limits = limits
        self._connection = connection
        self._is_own = is_own

    def __aiter__(self) -> "StreamMessages[Q]":
        return self

    async def __anext__(self) -> Q:
        await self._budget.room()
        if self._connection is None:
            return await anext(self._messages)
        if not self._is_own:
            message = await anext(self._messages)
            self._connection.note_read()
            return message
        reading = asyncio.ensure_future(anext(self._messages, None))
        try:
            with self._budget.share() as share, self._connection.arriving() as arrival:
                share.may_hold_pixels = True
                await self._count(share, reading, arrival)
        finally:
            reading.cancel()  # no harm where it is done
        if (found := reading.result()) is None:
            raise StopAsyncIteration
        return found

    async def _count(self, share: Share, reading: "asyncio.Future[Any]", arrival: Arrival) -> None:
        """Hold what has arrived of a message until it is there."""
        begun_s: float | None = None
        with ExitStack() as stack:
            while not (await asyncio.wait({reading}, timeout=LOOK_S))[0]:
                num_bytes = arrival.num_bytes(share.max_bytes)  # the frames around it aside
                share.settle(num_bytes)
                if begun_s is None and num_bytes >= PROGRESS_BYTES:
                    begun_s = time.monotonic()
                    stack.enter_context(share.arriving(lambda: _end(reading)))
                if begun_s is not None and time.monotonic() - begun_s > self._limits.max_upload_s:
                    raise DeadlineExceededError("A batch of the stream took too long to arrive.", stage="receive")


def _end(reading: "asyncio.Future[Any]") -> None:
    reading.cancel()
