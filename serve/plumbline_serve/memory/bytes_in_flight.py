"""The bytes of requests under way: one budget for all of a gateway, REST and gRPC together.

Without it only the number of connections bounds what unfinished uploads hold, for each may be as large as one request
may be. Used on one event loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, Self

from plumbline_models.core.errors import CapacityError, RequestTooLargeError
from plumbline_serve.memory.connections import Connections
from plumbline_serve.memory.free_memory import FreeMemory
from plumbline_serve.memory.streams import OpenStreams
from plumbline_serve.settings import Limits

RETRY_AFTER_S = 1.0
PROGRESS_BYTES = 2**16
SLOW_AFTER_S = 5.0
"""A body that brings fewer than `PROGRESS_BYTES` in this time is slow: it is given up where others need room."""
LOOK_AGAIN_S = 1.0
PROMPT_S = 0.1
"""A body that is there within counts among none that arrive: nobody keeps it out by beginning others."""
MAX_ARRIVING = 256
"""Further bodies that may arrive at the same time, whatever they hold: fewer than either wire has places at HAProxy,
so that a gateway hears of further ones, and has the slow give way."""


class BytesObserver(Protocol):
    """Hears of the bytes."""

    def in_flight(self, num_bytes: int) -> None:
        """The requests under way hold so many bytes."""
        ...


class Share:
    """What one request holds of the budget, until it is closed or left as a context."""

    def __init__(self, budget: "BytesInFlight") -> None:
        self._budget = budget
        self._fresh_bytes = 0
        self.num_bytes = 0
        self.may_hold_pixels = False
        """Whether it may be as large as one raw image, because its wire carries these."""
        self.progressed_s = time.monotonic()
        self.stop: Callable[[], None] | None = None
        """Ends the wait for the body; None where it is not waited for."""
        self.is_given_up = False
        self.is_counted = False
        """Whether it is one of the bodies that arrive, of which there may be so many; a prompt one is not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold nothing more."""
        self.give_back(self.num_bytes)

    def take(self, num_bytes: int) -> None:
        """Hold more bytes, which have arrived.

        Raises:
            RequestTooLargeError: The request has more bytes than one may have.
            CapacityError: All requests together would hold more than they may, or this one was given up as slow.
        """
        self.check()
        self._budget.take(self, num_bytes)
        self._fresh_bytes += num_bytes
        if self._fresh_bytes >= PROGRESS_BYTES:
            self._fresh_bytes = 0
            self.progressed_s = time.monotonic()

    @property
    def connections(self) -> Connections:
        """As `BytesInFlight.connections`."""
        return self._budget.connections

    @property
    def max_bytes(self) -> int:
        """What the request may have at most."""
        return self._budget.max_of(may_hold_pixels=self.may_hold_pixels)

    def settle(self, num_bytes: int) -> None:
        """Hold so many bytes in all, now that the request is there; raises as `take` does."""
        if (num_more := num_bytes - self.num_bytes) > 0:
            self.take(num_more)
        else:
            self.check()
            self.give_back(-num_more)

    def give_back(self, num_bytes: int) -> None:
        """Hold so many bytes less."""
        self._budget.give_back(self, num_bytes)

    def check_size(self, num_bytes: int) -> None:
        """Hold the request's size against the limits.

        Raises:
            RequestTooLargeError: It is above that of one request, or would not fit even alone.
        """
        self._budget.check_size(num_bytes, may_hold_pixels=self.may_hold_pixels)

    def arriving(self, stop: Callable[[], None]) -> AbstractContextManager[None]:
        """As `BytesInFlight.arriving`."""
        return self._budget.arriving(self, stop)

    def check(self) -> None:
        """See that the share is still held.

        Raises:
            CapacityError: It was given up.
        """
        if self.is_given_up:
            raise CapacityError(
                "The request arrived too slowly while others needed the room; try again.", retry_after_s=RETRY_AFTER_S
            )


class BytesInFlight:
    """What all requests under way may hold, and what they do."""

    def __init__(
        self,
        limits: Limits,
        observer: BytesObserver | None = None,
        *,
        slow_after_s: float = SLOW_AFTER_S,
        max_arriving: int = MAX_ARRIVING,
        prompt_s: float = PROMPT_S,
        free_memory: FreeMemory | None = None,
    ) -> None:
        self._free_memory = free_memory
        self._slow_after_s = slow_after_s
        self._max_arriving = max_arriving
        self._prompt_s = prompt_s
        self._max = int(limits.max_bytes_in_flight)
        self.max_of_one = min(int(limits.max_request_bytes), self._max)
        self._max_of_form = min(limits.max_form_bytes, self._max)
        self._observer = observer
        self._arriving: set[Share] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self.streams = OpenStreams(idle_after_s=slow_after_s)
        self.connections = Connections()
        """What begun messages of gRPC hold is told by these."""
        self.num_bytes = 0
        """Held at the moment."""

    def share(self) -> Share:
        """What one request holds, until it ends in whatever way."""
        return Share(self)

    @contextmanager
    def arriving(self, share: Share, stop: Callable[[], None]) -> Iterator[None]:
        """While a body arrives, it may be given up where it is not prompt and others need room.

        Args:
            stop: Ends the wait for it.

        Raises:
            CapacityError: It was given up.
        """
        share.stop = stop
        self._arriving.add(share)
        timer = asyncio.get_running_loop().call_later(self._prompt_s, self._begin_to_count, share)
        try:
            yield
        finally:
            timer.cancel()
            self._arriving.discard(share)
            share.stop, share.is_counted = None, False
        share.check()

    def _begin_to_count(self, share: Share) -> None:
        """A body is not there yet: it is one of those that arrive, or is given up where there are too many."""
        self._give_up_slow(self._has_place, but=share)
        if self._has_place():
            share.is_counted = True
        else:
            self._give_up(share)

    def _has_place(self) -> bool:
        return sum(each.is_counted for each in self._arriving) < self._max_arriving

    def max_of(self, *, may_hold_pixels: bool) -> int:
        """As `Share.max_bytes`."""
        return self._max_of_form if may_hold_pixels else self.max_of_one

    def check_size(self, num_bytes: int, *, may_hold_pixels: bool) -> None:
        """As `Share.check_size`."""
        limit = self.max_of(may_hold_pixels=may_hold_pixels)
        if num_bytes > limit:
            raise RequestTooLargeError(f"The request has more than the {limit} bytes allowed.")

    def take(self, share: Share, num_bytes: int) -> None:
        """As `Share.take`."""
        share.check_size(share.num_bytes + num_bytes)
        self._give_up_slow(lambda: self._has_room(num_bytes), but=share)
        if not self._has_room(num_bytes):
            raise CapacityError(
                "The service holds as many bytes of requests as it may; try again.", retry_after_s=RETRY_AFTER_S
            )
        share.num_bytes += num_bytes
        self._hold(self.num_bytes + num_bytes)

    async def room(self) -> None:
        """Wait until one more of the largest requests without pixels would fit; bodies that are slow give way."""
        while not self._has_room(self.max_of_one):
            self._give_up_slow(lambda: self._has_room(self.max_of_one))
            change = asyncio.get_running_loop().create_future()
            self._waiting.add(change)
            try:
                await asyncio.wait({change}, timeout=LOOK_AGAIN_S)  # others may have become slow
            finally:
                self._waiting.discard(change)

    def _has_room(self, num_bytes: int) -> bool:
        return self.num_bytes + num_bytes <= self._max

    def _give_up_slow(self, is_enough: Callable[[], bool], *, but: Share | None = None) -> None:
        """Give up bodies that are slow, the slowest first, until that is enough."""
        if is_enough():
            return
        latest_s = time.monotonic() - self._slow_after_s
        slow = [each for each in self._arriving if each.progressed_s < latest_s and each is not but]
        for share in sorted(slow, key=lambda each: each.progressed_s):
            if is_enough():
                return
            self._give_up(share)

    def _give_up(self, share: Share) -> None:
        share.is_given_up = True
        self._arriving.discard(share)
        self.give_back(share, share.num_bytes)
        if share.stop is not None:
            share.stop()

    def give_back(self, share: Share, num_bytes: int) -> None:
        """Hold so many bytes less.

        Args:
            share: What held them.
            num_bytes: How many.
        """
        share.num_bytes -= num_bytes
        self._hold(self.num_bytes - num_bytes)

    def _hold(self, num_bytes: int) -> None:
        if num_bytes != self.num_bytes:
            is_less = num_bytes < self.num_bytes
            if is_less and self._free_memory is not None:
                self._free_memory.let_go(self.num_bytes - num_bytes)
            self.num_bytes = num_bytes
            if self._observer is not None:
                self._observer.in_flight(num_bytes)
            for change in self._waiting if is_less else ():
                if not change.done():
                    change.set_result(None)
