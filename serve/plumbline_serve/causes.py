"""Lets go of what stands behind an error, once that is dealt with.

An error that was raised holds the frames that it passed through, and often they hold it. The request's bytes, pixels
and tensors would then stay until Python looks for such circles: it does by the number of objects, not by their size.
"""

import traceback
from collections.abc import Iterator


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
