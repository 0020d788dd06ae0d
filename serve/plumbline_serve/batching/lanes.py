"""What waits for an encoder: inputs by lane and bucket, in order of arrival."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Encoding, Preprocessed
from plumbline_serve.concurrency import Deadline

Lane: TypeAlias = Literal["interactive", "bulk"]
LANES: tuple[Lane, ...] = ("interactive", "bulk")


@dataclass(slots=True, eq=False)
class Entry:
    """One input on its way through a batcher; times are seconds on the monotonic clock."""

    preprocessed: Preprocessed
    cost: float
    bucket: Hashable
    deadline: Deadline
    future: asyncio.Future[Encoding | PlumblineError]
    queued_at: float
    started_at: float = 0.0
    ended_at: float = 0.0

    def answer(self, encoding: Encoding | PlumblineError) -> None:
        """Hand the caller its encoding or its error; nothing happens if it has gone."""
        if not self.future.done():
            self.future.set_result(encoding)


@dataclass(slots=True)
class LaneQueue:
    """One lane."""

    num_items: int = 0
    _buckets: dict[Hashable, "OrderedDict[Entry, None]"] = field(default_factory=dict)

    @property
    def oldest_s(self) -> float:
        """When the oldest input came; infinity for an empty lane."""
        return min((_oldest(bucket).queued_at for bucket in self._buckets.values()), default=math.inf)

    def push(self, entry: Entry) -> None:
        """Add an input at the end."""
        self._buckets.setdefault(entry.bucket, OrderedDict())[entry] = None
        self.num_items += 1

    def put_back(self, entry: Entry) -> None:
        """Return an input that was taken but did not fit, to the front."""
        self.push(entry)
        self._buckets[entry.bucket].move_to_end(entry, last=False)

    def discard(self, entry: Entry) -> bool:
        """Take an input out, wherever it stands; whether it was there."""
        waiting = self._buckets.get(entry.bucket)
        if waiting is None or entry not in waiting:
            return False
        del waiting[entry]
        self._taken(entry.bucket)
        return True

    def oldest_bucket(self) -> Hashable:
        """The bucket whose first input has waited longest; the lane must not be empty."""
        return min(self._buckets, key=lambda bucket: _oldest(self._buckets[bucket]).queued_at)

    def drain(self, bucket: Hashable) -> Iterator[Entry]:
        """Take inputs of one bucket, oldest first, for as long as the caller asks."""
        while waiting := self._buckets.get(bucket):
            entry, _ = waiting.popitem(last=False)
            self._taken(bucket)
            yield entry

    def drain_all(self) -> Iterator[Entry]:
        """Take everything."""
        for bucket in list(self._buckets):
            yield from self.drain(bucket)

    def _taken(self, bucket: Hashable) -> None:
        self.num_items -= 1
        if not self._buckets[bucket]:
            del self._buckets[bucket]


def _oldest(bucket: "OrderedDict[Entry, None]") -> Entry:
    return next(iter(bucket))
