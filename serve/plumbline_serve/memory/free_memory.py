"""Gives memory that large requests have left back to the system (glibc).

glibc keeps what is freed for the next of its size. A lower threshold for what it maps by itself
(`MALLOC_MMAP_THRESHOLD_`) would return it at once, but maps the pixels of every image anew, and decoding takes twice as
long. So what is free is returned in one go, some time after requests have let go of a good deal.
"""

import asyncio
import ctypes
from collections.abc import Callable

LEAST_BYTES = 64 * 2**20
"""Let go before anything is returned."""
PERIOD_S = 10.0
"""From then until it is, so that a busy gateway does not do it all the time."""


class FreeMemory:
    """Hears what requests let go of, on one event loop.

    Args:
        give_back: Returns what is free; runs on a thread. Default: `malloc_trim`, where there is one.
        period_s: Seconds from letting go to returning.
    """

    def __init__(self, give_back: Callable[[], object] | None = None, *, period_s: float = PERIOD_S) -> None:
        self._give_back = give_back or trimmer()
        self._period_s = period_s
        self._num_bytes = 0
        self._is_due = False

    def let_go(self, num_bytes: int) -> None:
        """Requests hold so many bytes less."""
        self._num_bytes += num_bytes
        if self._num_bytes >= LEAST_BYTES and not self._is_due and self._give_back is not None:
            self._is_due = True
            asyncio.get_running_loop().call_later(self._period_s, self._begin, self._give_back)

    def _begin(self, give_back: Callable[[], object]) -> None:
        self._is_due = False
        self._num_bytes = 0
        asyncio.get_running_loop().run_in_executor(None, give_back)


def trimmer() -> Callable[[], object] | None:
    """What returns the free memory of this process; None where the system's allocator has no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)
