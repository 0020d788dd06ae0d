"""Whose work begins next on the event loop: one request's in each turn of it, in fair turns.

What a request does before it waits for threads and encoders takes the loop milliseconds. Hundreds that are let in
within a second, because their callers wait long, would take it for seconds: nobody would be refused meanwhile, and
whoever asks whether the process lives would hear nothing. So the loop looks at its connections between one beginning
and the next, and a caller that has left by then is noticed before anything is done for it.

Turns are long where much comes that is refused in them. So a few begin in one turn while few are under way: encoders
would else wait for work that waits here.
"""

import asyncio
from typing import Final, TypeAlias

from plumbline_serve.scheduling.fair_queue import FairQueue
from plumbline_serve.scheduling.request_context import RequestContext

FEW: Final = 64
"""Requests under way, with which encoders have full batches."""
AT_ONCE: Final = 4
"""Requests that begin in a turn while there are so few."""
_Waiter: TypeAlias = "asyncio.Future[None]"


class Turns:
    """Has requests begin; bound to one event loop."""

    def __init__(self) -> None:
        self._queue: FairQueue[_Waiter] = FairQueue()
        self._is_going = False
        self._num_begun = 0

    async def begin(self, context: RequestContext) -> None:
        """Wait for the turn of a request, two turns of the loop where no other waits; `end` must follow.

        Args:
            context: Of the request.
        """
        await asyncio.sleep(0)  # those who wait for the end of the connection begin to, and act in the next turn
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._queue.push(context, [(1.0, waiter)])
        if not self._is_going:
            self._is_going = True
            loop.call_soon(self._go_on)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._queue.drop(context, lambda each: each is waiter)
            else:  # its turn came in the same moment
                self.end()
            raise

    def end(self) -> None:
        """A request that had begun is under way no longer."""
        self._num_begun -= 1

    def _go_on(self) -> None:
        """Have the next ones begin, and come again while others wait."""
        for _ in range(AT_ONCE if self._num_begun < FEW else 1):
            for _, waiter in self._queue.pop():
                if not waiter.done():
                    waiter.set_result(None)
                    self._num_begun += 1
        self._is_going = self._queue.num_units > 0
        if self._is_going:
            asyncio.get_running_loop().call_soon(self._go_on)
