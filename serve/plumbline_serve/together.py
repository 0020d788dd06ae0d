"""Run coroutines side by side; the first error cancels the rest."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


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
        failed = next((index for index, task in enumerate(tasks) if _has_failed(task)), None)
        await _stop(tasks)
        if failed is not None:
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
