"""The streams of messages that are open in one gateway: as many as may be, and one that does nothing gives way.

gRPC holds a begun message of each, so their number is bounded. A stream may be silent for as long as it likes, as long
as nobody else needs its place. Used on one event loop.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from plumbline_models.core.errors import CapacityError

MAX_STREAMS = 32
RETRY_AFTER_S = 1.0


class OpenStream:
    """One stream; idle while none of its messages is being answered."""

    def __init__(self) -> None:
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Has an error once the stream has to end."""
        self.idle_since_s = time.monotonic()
        self.num_answering = 0

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While a message of it is answered."""
        self.num_answering += 1
        try:
            yield
        finally:
            self.num_answering -= 1
            self.idle_since_s = time.monotonic()

    def give_up(self) -> None:
        """Have it end."""
        if not self.given_up.done():
            error = CapacityError("The stream was idle while others needed its place.", retry_after_s=RETRY_AFTER_S)
            self.given_up.set_exception(error)
            self.given_up.exception()  # it may end by itself before anybody asks


class OpenStreams:
    """All of them.

    Args:
        idle_after_s: One none of whose messages was being answered for so long gives way to another one.
    """

    def __init__(self, *, idle_after_s: float) -> None:
        self._idle_after_s = idle_after_s
        self._open: set[OpenStream] = set()

    @contextmanager
    def open(self) -> Iterator[OpenStream]:
        """While a stream is open.

        Raises:
            CapacityError: As many are open as may be, and none has been idle for long.
        """
        if len(self._open) >= MAX_STREAMS:
            self._give_way()
        stream = OpenStream()
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)
            stream.given_up.cancel()

    def _give_way(self) -> None:
        latest_s = time.monotonic() - self._idle_after_s
        idle = [each for each in self._open if not each.num_answering and each.idle_since_s <= latest_s]
        if not idle:
            raise CapacityError("As many streams are open as may be; try again.", retry_after_s=RETRY_AFTER_S)
        longest = min(idle, key=lambda each: each.idle_since_s)
        self._open.discard(longest)
        longest.give_up()
