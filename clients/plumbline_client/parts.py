"""Calls that hold more than one request may, sent as several whose replies are joined; does no sending itself."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel

from plumbline_client.calls import Bounds, Call
from plumbline_client.errors import PlumblineClientError, ProblemError
from plumbline_client.images import Image
from plumbline_client.items import Item
from plumbline_client.requests import Request

T = TypeVar("T", bound=BaseModel)
Entry: TypeAlias = Item | Image | str
_TOO_MANY = "too_many_items"
_TOO_MUCH = frozenset({_TOO_MANY, "request_too_large", "http_413"})
"""Codes of a request that would be answered if it held less; the last is of what stands in front of a service."""
_ENTRY_BYTES = 512  # what an entry takes beside its images and texts, at most: names, boundaries, headers
_ESCAPED = 6  # bytes of a character that JSON escapes


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    """The first of its entries, of those of the whole."""
    request: Request[Any]


class Parts(Generic[T]):
    """The requests of one call, one after the other, and what they were answered.

    Args:
        request: The whole.
        call: Whose time and attempts they share.
    """

    def __init__(self, request: Request[T], call: Call) -> None:
        self.call = call
        self._request = request
        self._waiting = deque(self._cut(0))
        self._replies: list[tuple[int, T]] = []
        self._beside: list[Any] = []

    @property
    def pending(self) -> Request[Any] | None:
        """What is to be sent next; None: all was answered."""
        if self._waiting:
            return self._waiting[0].request
        left = self._request.beside[len(self._beside) :] if len(self._replies) > 1 else ()
        return next(iter(left), None)

    def answered(self, reply: Any) -> None:
        """Book the reply to `pending`."""
        self.call.succeeded()
        if self._waiting:
            self._replies.append((self._waiting.popleft().start, reply))
        else:
            self._beside.append(reply)

    def wait_after(self, error: PlumblineClientError) -> float:
        """Seconds to wait before `pending` is sent, which may be less of it than what failed.

        Raises:
            PlumblineClientError: The same error, where there is to be no other attempt.
        """
        if not isinstance(error, ProblemError) or error.code not in _TOO_MUCH or not self._waiting:
            return self.call.wait_after(error)
        part = self._waiting[0]
        entries = part.request.entries
        if len(entries) <= 1:
            failed = part.request.refused(error.problem) if len(self._request.entries) > 1 else None
            if failed is None:
                return self.call.wait_after(error)
            self._replies.append((self._waiting.popleft().start, failed))
            return 0.0
        bounds = self.call.bounds
        if error.code == _TOO_MANY:
            bounds.max_items = min(bounds.max_items, len(entries) // 2)
        else:
            bounds.max_bytes = min(bounds.max_bytes, _num_bytes(entries, self._request.base) // 2)
        self._waiting = deque(self._cut(part.start))
        return 0.0

    def joined(self) -> T:
        """The reply to the whole."""
        if len(self._replies) == 1:
            return self._replies[0][1]
        return self._request.join(self._replies, self._beside)

    def _cut(self, first: int) -> Iterator[_Part]:
        """The entries from `first` on, as many at a time as a request may hold; one that is too large stands alone."""
        entries = self._request.entries
        places = list(_cuts(entries[first:], self.call.bounds, self._request.base))
        if not places and first == 0:
            yield _Part(0, self._request)
        else:
            starts = [first, *(first + place for place in places)]
            for start, stop in zip(starts, [*starts[1:], len(entries)], strict=True):
                yield _Part(start, self._request.cut(start, stop))


def _cuts(entries: Sequence[Entry], bounds: Bounds, base: Sequence[Entry]) -> Iterator[int]:
    """Where a new request begins, but for the first."""
    start, seen, num_bytes = 0, set[int](), _num_bytes(base)
    for index, entry in enumerate(entries):
        more = _entry_bytes(entry, seen)
        if index > start and (index - start >= bounds.max_items or num_bytes + more > bounds.max_bytes):
            yield index
            start, seen, num_bytes = index, set(), _num_bytes(base)
            more = _entry_bytes(entry, seen)
        num_bytes += more


def _num_bytes(*groups: Sequence[Entry]) -> int:
    seen: set[int] = set()
    return sum(_entry_bytes(entry, seen) for entries in groups for entry in entries)


def _entry_bytes(entry: Entry, seen: set[int]) -> int:
    """About what an entry adds to a request; an image that is there already adds nothing."""
    if isinstance(entry, str):
        return _ENTRY_BYTES + _text_bytes(entry)
    item = Item(entry) if isinstance(entry, Image) else entry
    asked = [*item.references, *item.phrases, *(question.text for question in item.questions)]
    num_bytes = _ENTRY_BYTES * (1 + len(asked)) + sum(map(_text_bytes, [item.text or "", item.id or "", *asked]))
    for image in (item.image, item.reference_image, *item.frames):
        if image is not None and id(image) not in seen:
            seen.add(id(image))
            num_bytes += len(image.content or image.address or "")
    return num_bytes


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else _ESCAPED * len(text)
