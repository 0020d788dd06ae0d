"""Texts that wait for the images of their requests.

A request is scored once its image and its text are encoded. While the image waits behind others for a busy encoder, its
text is in no hurry: texts that were encoded as they come would go in batches of one or two, beside the images and at
their expense. So they wait for a moment, or until the image's batch begins, which takes longer than theirs, and go
together. No longer than a moment, since another request may join in for the same text, and has no image to wait for.

Only texts wait, since pairs are encoded from images that are encoded, and nothing is from a text.
"""

from collections.abc import Iterable
from typing import Protocol

from plumbline_serve.scheduling.request_context import RequestContext

MAX_EARLY_S = 0.25
"""How long a text waits for its image."""


class Sibling(Protocol):
    """One encoder's batcher, as those of the same process see it."""

    @property
    def is_busy(self) -> bool:
        """Whether all its streams compute."""
        ...

    @property
    def input_s(self) -> float:
        """Seconds that an input takes alone; 0 until that is known."""
        ...

    def has(self, context: RequestContext) -> bool:
        """Whether an input of a request waits here, or is being preprocessed."""
        ...

    def wake(self) -> None:
        """See again whether it is time for a batch."""
        ...


class Siblings:
    """The batchers of one process; bound to one event loop."""

    def __init__(self) -> None:
        self._members: list[Sibling] = []

    def add(self, member: Sibling) -> None:
        """Take one more."""
        self._members.append(member)

    def all_wait(self, member: Sibling, contexts: Iterable[RequestContext]) -> bool:
        """Whether each of the requests waits for a busy encoder that takes longer.

        Args:
            member: Where they wait, too.
            contexts: Of the requests.
        """
        own_s = member.input_s
        slower = [other for other in self._members if other.is_busy and other.input_s > own_s]
        return bool(slower) and all(any(other.has(context) for other in slower) for context in contexts)

    def changed(self, member: Sibling) -> None:
        """A batch of one begins or ends, or inputs of it are gone: the others may have waited for that.

        Args:
            member: The one.
        """
        for other in self._members:
            if other is not member:
                other.wake()
