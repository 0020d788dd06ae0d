"""When the work of a request that was let in begins: once its encoder can use it soon, and in its turn of the loop.

Callers that wait long are let in by hundreds. Were all of them to begin at once, their images would be decoded long
before an encoder has time for them, on the cores that it needs, and would lie in memory; and the event loop, which each
beginning takes milliseconds of, would hear of nobody else for seconds: neither of new callers, nor of those who ask
whether the process lives.

So requests stand in lines, by what they wait for and by whose they are, and of each line no more are under way than
keep the encoder busy; the others cost nothing. In no line do two stand of which one could go first elsewhere: a small
request has another line than a large one, an urgent one another than what can wait.

Those that may begin do so in fair turns, a few in each turn of the loop, so that it looks at its connections between
them, and a caller that has left by then is noticed before anything is done for it.
"""

import asyncio
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from plumbline_serve.scheduling.fair_queue import FairQueue
from plumbline_serve.scheduling.request_context import RequestContext

FEW: Final = 64
"""Requests under way, with which encoders have full batches: while there are fewer, several begin in a turn."""
AT_ONCE: Final = 4
"""Requests that begin in a turn while there are so few. Turns are long where much comes that is refused in them, and
encoders would else wait for work that waits here."""
_Waiter: TypeAlias = "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class Line:
    """Which line of its caller's a request stands in."""

    name: Hashable
    """What it waits for, and what passes it there."""
    room: int
    """Requests of the line that may be under way, at least 1."""
    latest_s: float = math.inf
    """Until when it is worth while to wait for room, on the clock of deadlines."""


@dataclass(slots=True, eq=False)
class _Line:
    """Requests that begin one behind the other."""

    key: Hashable
    room: int = 1
    """As the last one that came has it."""
    num_let_go: int = 0
    """Requests that are under way, or are as soon as their turn comes."""
    waiting: dict[RequestContext, _Waiter] = field(default_factory=dict)
    """The others, in order."""


class Turns:
    """Has requests begin; bound to one event loop."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, _Line] = {}
        self._line_of: dict[RequestContext, _Line] = {}
        self._queue: FairQueue[_Waiter] = FairQueue()
        self._num_let_go = 0
        self._is_going = False

    async def begin(self, context: RequestContext, line: Line) -> None:
        """Wait until a request may begin, two turns of the loop where no other waits; `end` must follow.

        Args:
            context: Of the request.
            line: Of its caller's requests of this priority.

        Raises:
            TimeoutError: There was no room before it was too late.
        """
        await asyncio.sleep(0)  # those who wait for the end of the connection begin to, and act in the next turn
        key = context.priority, context.caller.tenant, line.name
        joined = self._lines.get(key) or self._lines.setdefault(key, _Line(key))
        joined.room = line.room
        self._line_of[context] = joined
        waiter = joined.waiting[context] = asyncio.get_running_loop().create_future()
        self._let_go(joined)
        if context in joined.waiting and math.isfinite(line.latest_s):
            async with asyncio.timeout_at(line.latest_s):
                await waiter
        else:
            await waiter

    def end(self, context: RequestContext) -> None:
        """A request is under way no longer, or waits no longer.

        Args:
            context: Of the request; nothing happens where it never came to `begin`.
        """
        line = self._line_of.pop(context, None)
        if line is None:
            return
        if line.waiting.pop(context, None) is None:
            line.num_let_go -= 1
            self._num_let_go -= 1
            self._queue.drop(context, lambda _: True)
            self._let_go(line)
        if not line.num_let_go and not line.waiting:
            del self._lines[line.key]

    def _let_go(self, line: _Line) -> None:
        """Have as many of a line take their turns as it has room for."""
        while line.waiting and line.num_let_go < line.room:
            context = next(iter(line.waiting))
            self._queue.push(context, [(1.0, line.waiting.pop(context))])
            line.num_let_go += 1
            self._num_let_go += 1
        if self._queue.num_units and not self._is_going:
            self._is_going = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Have the next ones begin, and come again while others wait."""
        num_under_way = self._num_let_go - self._queue.num_units
        for _ in range(AT_ONCE if num_under_way < FEW else 1):
            for _, waiter in self._queue.pop():
                if not waiter.done():
                    waiter.set_result(None)
        self._is_going = self._queue.num_units > 0
        if self._is_going:
            asyncio.get_running_loop().call_soon(self._go_on)
