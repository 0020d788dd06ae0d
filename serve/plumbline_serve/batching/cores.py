"""Turns of long batches at the cores of a machine, which the encoders of a process share.

An engine on a CPU computes a batch with all cores. Were every encoder to compute at once, each batch would take as many
times longer, each would push the others' weights out of the caches, and the event loop, one of many threads that want a
core, would hear of new callers late: on two cores with five engines it waited for a core 0.38 of the time, and refusals
took 44 to 113 ms at the 95th percentile; with two batches at a time 12 to 29, and as much was computed.

So two go at a time for each stream that engines have: one fills the cores where the other computes alone. Others wait
in order of arrival. A short batch, such as that of a few texts or of one small image, waits for none.

A batch is formed as late as can be, so that it takes what came last and leaves what would be late. But the next one is
formed while those before it are computed, and waits on its thread: the event loop, which has much else to do, would
else let the cores stand idle between one batch and the next.
"""

import asyncio
import threading
import time
from types import TracebackType
from typing import Final, Self

TURNS_PER_STREAM: Final = 2
ON_DECK: Final = 1
"""Batches that are formed while as many are computed as may be."""
SHORT_S: Final = 0.01
"""A batch that is expected to take no more needs no turn."""
_NEWEST = 0.2  # what a turn weighs in the average of how long they were waited for


class Cores:
    """Whose turn it is; bound to one event loop. From when a batch is formed, it is held within `async with`.

    Args:
        num_turns: Long batches that are computed at a time, at least 1.
    """

    def __init__(self, num_turns: int) -> None:
        self._turns = asyncio.Semaphore(num_turns + ON_DECK)
        self.computing = threading.Semaphore(num_turns)
        """For the threads of batches whose turn it is."""
        self._waited_s = 0.0

    @property
    def wait_s(self) -> float:
        """Seconds until a turn comes, as of late; 0 while there is one left."""
        return self._waited_s if self._turns.locked() else 0.0

    async def __aenter__(self) -> Self:
        asked_s = time.monotonic()
        await self._turns.acquire()
        self._waited_s += _NEWEST * (time.monotonic() - asked_s - self._waited_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._turns.release()
