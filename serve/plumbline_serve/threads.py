"""Threads whose names the system knows too: `top -H`, `perf` and /proc/PID/task show what each is for."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

NAME_BYTES = 15
"""All that Linux keeps of a name."""
PIECE_S = 0.005
"""How long a request works on many small inputs before others have their turn: 50 hops to a thread."""
PIECES_A_THREAD = 2
"""Of one request, in a pool at a time: one is worked on, and the next is at hand when it is done."""

R = TypeVar("R")
T = TypeVar("T")


class CpuPool:
    """Threads that requests share piece by piece.

    Args:
        num_threads: At least 1.
        name: Of the threads.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self.num_threads = num_threads
        self.executor = named_threads(num_threads, name)

    def turns(self) -> "Turns":
        """One request's way in."""
        return Turns(self)


@dataclass(frozen=True, slots=True)
class CpuPools:
    """The pools of one process, by what is done there: none of it ever is on an event loop."""

    decode: CpuPool
    """Images are opened, decoded and fitted."""
    tokenise: CpuPool
    """Texts, which must not stand behind images."""
    score: CpuPool
    """Scores are worked out, which must not stand behind other requests' texts."""

    @classmethod
    def of(cls, num_decoders: int) -> "CpuPools":
        """Pools with so many threads for images, and one for each of the others: Python runs one at a time anyway."""
        return cls(CpuPool(num_decoders, "decode"), CpuPool(1, "tokenise"), CpuPool(1, "score"))


class Turns:
    """One request's way into a pool.

    The pool takes pieces in the order in which they come. As no more than a few of one request are there at a time,
    what comes waits for a few pieces of each request, and not for all that a large one has to do.
    """

    def __init__(self, pool: CpuPool) -> None:
        self._executor = pool.executor
        self._free = asyncio.Semaphore(pool.num_threads * PIECES_A_THREAD)

    async def run(self, function: Callable[..., R], *args: Any) -> R:
        """Call a function on a thread, as one piece."""
        async with self._free:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def each(self, function: Callable[[T], R], inputs: Sequence[T]) -> list[R]:
        """Call a function with each input, as many in a piece as are done in a few milliseconds."""
        results: list[R] = []
        while len(results) < len(inputs):
            results += await self.run(_some, function, inputs, len(results))
        return results


def _some(function: Callable[[T], R], inputs: Sequence[T], first: int) -> list[R]:
    until = time.perf_counter() + PIECE_S
    results: list[R] = []
    for each in itertools.islice(inputs, first, None):
        results.append(function(each))
        if time.perf_counter() >= until:
            break
    return results


def named_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """As many threads, all of one name; what they start in turn inherits it, as an engine's own threads do."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix=name, initializer=_name_thread, initargs=(name,))


def _name_thread(name: str) -> None:
    """Python does it by itself from 3.14 on; where there is no /proc, the name stays Python's alone."""
    with suppress(OSError):
        comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        comm.write_bytes(name.encode()[:NAME_BYTES])
