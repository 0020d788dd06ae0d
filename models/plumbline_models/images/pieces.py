"""Long work on an image, in pieces between which it may end: nobody may wait any more, and no thread can be stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final


def _always_wanted() -> None:
    """For work that is to be done whatever happens."""


_STILL_WANTED: Final[ContextVar[Callable[[], None]]] = ContextVar("still_wanted", default=_always_wanted)
"""Of the work that this thread does."""


@contextmanager
def ended_by(still_wanted: Callable[[], None]) -> Iterator[None]:
    """Have work on this thread end, for as long as the context lasts.

    Args:
        still_wanted: Called between two pieces of the work; raises where nobody waits for it.
    """
    token = _STILL_WANTED.set(still_wanted)
    try:
        yield
    finally:
        _STILL_WANTED.reset(token)


def between_pieces() -> None:
    """What long work calls between two pieces; raises whatever says that nobody waits for the rest."""
    _STILL_WANTED.get()()
