"""How a request's work runs: until its deadline, side by side, on named threads, and leaving nothing behind.

Threads have names that the system knows too: `top -H`, `perf` and /proc/PID/task show what each is for.
"""

import asyncio
import math
import threading
import time
import traceback
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from plumbline_models.core.errors import DeadlineExceededError

NAME_BYTES = 15
"""All that Linux keeps of a thread's name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on this process's monotonic clock; `math.inf` where the caller set none.

    Processes do not share the clock: what crosses a border is `remaining_s`, from which the other side makes a
    deadline of its own.
    """

    at_s: float = math.inf

    @classmethod
    def after_ms(cls, timeout_ms: float | None) -> Self:
        """The deadline that many milliseconds from now; none for None."""
        return cls() if timeout_ms is None else cls(time.monotonic() + timeout_ms / 1000)

    @classmethod
    def after_s(cls, remaining_s: float | None) -> Self:
        """The deadline that many seconds from now; none for None."""
        return cls.after_ms(None if remaining_s is None else remaining_s * 1000)

    @property
    def remaining_s(self) -> float | None:
        """Seconds left, not below 0; None where there is no deadline."""
        return None if math.isinf(self.at_s) else max(0.0, self.at_s - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether nobody waits any more."""
        return time.monotonic() >= self.at_s

    def error(self, stage: str) -> DeadlineExceededError:
        """What to raise or to answer when it has passed, with the stage that it passed in."""
        return DeadlineExceededError("The deadline passed before the answer was ready.", stage=stage)


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order.

    Not a `TaskGroup`: of Python 3.11 and 3.12, an error that leaves one refers to the group, the group to its task, and
    the task to the error, so that a failed request's images would stay in memory until Python looks for such circles.

    Raises:
        BaseException: The first error of any of them, as it was raised, once the others have stopped.
    """
    pending = list(coroutines)
    if len(pending) <= 1:
        return [await coroutine for coroutine in pending]
    tasks = [asyncio.create_task(coroutine) for coroutine in pending]
    pending.clear()
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if (failed := next((index for index, task in enumerate(tasks) if _has_failed(task)), None)) is not None:
            await _stop(tasks)
            tasks[failed].result()  # raises
        return [task.result() for task in tasks]
    finally:
        await _stop(tasks)
        tasks.clear()  # the error holds this frame


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _stop(tasks: Sequence[asyncio.Task[Any]]) -> None:
    under_way = [task for task in tasks if not task.done()]
    for task in under_way:
        task.cancel()
    if under_way:
        await asyncio.wait(under_way)
    for task in tasks:
        _has_failed(task)  # an error that nobody has asked for would be logged once the task is gone


def named_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """Threads of one name; what they start in turn inherits it, as an engine's own threads do.

    Args:
        num_threads: At most; each starts when it is first needed.
        name: Of all of them.
    """
    return ThreadPoolExecutor(num_threads, thread_name_prefix=name, initializer=_name_thread, initargs=(name,))


def _name_thread(name: str) -> None:
    """Python does it by itself from 3.14 on; where there is no /proc, the name stays Python's alone."""
    with suppress(OSError):
        comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        comm.write_bytes(name.encode()[:NAME_BYTES])


def release(error: BaseException) -> None:
    """Take the frames off an error that has been dealt with, and off all that led to it; its sentences stay."""
    for each in _chain(error):
        traceback.clear_frames(each.__traceback__)
        each.__traceback__ = None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or during, and the members of groups; each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
