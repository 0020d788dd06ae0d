"""Work that is under way, and who waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from plumbline_serve.concurrency import Deadline
from plumbline_serve.encoding_cache.keys import EncodingKey, EncodingOrError

Make: TypeAlias = Callable[[Sequence[EncodingKey]], Awaitable[Sequence[EncodingOrError]]]
"""Makes rows: one or an error for each name, in order."""


@dataclass(slots=True, eq=False)
class Joined:
    """What one request has waited for rows that others are having made."""

    seconds: float = 0.0
    """The longest wait."""


class InFlight:
    """Rows being made, for as long as anyone waits for them; not the work of whoever asked first.

    Args:
        make: Makes the rows.
        deadline: When whoever asked first goes; it bounds the work too.
        starter: Of the request that asked first.
    """

    def __init__(self, names: Sequence[EncodingKey], make: Make, deadline: Deadline, *, starter: Joined) -> None:
        self.names = names
        self.deadline = deadline
        self.starter = starter
        self._num_waiting = 0
        self.task = asyncio.create_task(_compute(names, make))
        self.task.add_done_callback(_retrieve)

    @property
    def is_done(self) -> bool:
        """Whether the rows are there; not so while they are being made, nor after the work as a whole went wrong."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    @property
    def can_be_joined(self) -> bool:
        """Whether it is worth waiting for; not so for work that has failed or is being stopped."""
        return self.is_done or not (self.task.done() or self.task.cancelling())

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for the rows inside; when the last one to wait leaves, the work is cancelled."""
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1
            if not self._num_waiting:
                self.task.cancel()


async def _compute(names: Sequence[EncodingKey], make: Make) -> Mapping[EncodingKey, EncodingOrError]:
    """Not of the flight: an error holds the frames that it passed, the flight its task, and the task the error."""
    return dict(zip(names, await make(names), strict=True))


def _retrieve(task: "asyncio.Task[Mapping[EncodingKey, EncodingOrError]]") -> None:
    """See the error of work that nobody waits for any more, which asyncio would log as forgotten."""
    if not task.cancelled():
        task.exception()
