"""Long runs of batches over one call: several under way, each answered as soon as it is ready."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


async def answer_each(
    questions: AsyncIterator[Q], answer: Callable[[Q], Awaitable[R]], *, most: int
) -> AsyncGenerator[R, None]:
    """Answer questions side by side, in the order in which the answers become ready.

    Args:
        most: Questions that may be under way; further ones are not read, so that the sender waits.
    """
    under_way: set[asyncio.Future[R]] = set()
    reading: asyncio.Future[Q | None] | None = asyncio.ensure_future(_next(questions))
    try:
        while reading or under_way:
            is_full = len(under_way) >= most
            waited: set[asyncio.Future[Any]] = {*under_way}
            if reading is not None and not is_full:
                waited.add(reading)
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                question = reading.result()
                reading = None
                if question is not None:
                    under_way.add(asyncio.ensure_future(answer(question)))
                    reading = asyncio.ensure_future(_next(questions))
            for task in [each for each in under_way if each.done()]:
                under_way.remove(task)
                yield task.result()
    finally:
        left: list[asyncio.Future[Any]] = [*under_way] if reading is None else [reading, *under_way]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _next(questions: AsyncIterator[Q]) -> Q | None:
    return await anext(questions, None)
