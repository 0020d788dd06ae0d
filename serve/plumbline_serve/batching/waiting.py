"""What waits for one encoder, and what leaves without being encoded: gone, expired, or too late to begin with."""

import time
from collections.abc import Callable, Iterable, Sequence

from plumbline_serve.batching.input_queue import Entry, InputQueue, is_wanted
from plumbline_serve.batching.load import EncoderLoad, late
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.scheduling.request_context import PRIORITIES, Priority

MANY = 256  # inputs that wait: a look for what would be late takes time by their number
LOOK_S = 0.02  # between two such looks where there are many


class Waiting:
    """A batcher's queue, and what the observer hears of it.

    Args:
        key: Of the encoder.
        observer: Hears how much waits in each lane, and of what expired.
        wake: Called when something has left.
    """

    def __init__(self, key: str, observer: BatchObserver, wake: Callable[[], None]) -> None:
        self.queue = InputQueue()
        self._key = key
        self._observer = observer
        self._wake = wake
        self._told: dict[Priority, int] = {}
        """What the observer last heard of each lane."""
        self._looked_at = 0.0

    def push(self, entries: Sequence[Entry], size: float) -> None:
        """Add the inputs of a call.

        Args:
            entries: They.
            size: Cost of all of them.
        """
        for entry in entries:
            self.queue.push(entry, size)
        self._tell()
        self._wake()

    def take(self, max_cost: float, max_items: int, load: EncoderLoad) -> list[Entry]:
        """A batch, without what nobody waits for; see `InputQueue.fill`.

        Args:
            max_cost: Of the batch.
            max_items: Of the batch.
            load: The encoder's, now.
        """
        now = time.monotonic()
        batch = self.queue.fill(
            max_cost, max_items, is_wanted=self._is_wanted, fits=lambda cost, at_s: load.fits(cost, at_s, now)
        )
        self._tell()
        return batch

    def drop(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take out those that still wait; they are not answered."""
        dropped = [entry for entry in entries if not entry.started_at and self.queue.discard(entry)]
        if dropped:
            self._tell()
            self._wake()
        return dropped

    def expire(self, entries: Sequence[Entry]) -> None:
        """Answer those that still wait although their deadline has passed."""
        for entry in self.drop(entries):
            self._answer_expired(entry)

    def tell_expired(self, entries: Iterable[Entry]) -> None:
        """Answer those without an answer, whose deadline passed before they were computed."""
        for entry in entries:
            if not entry.future.done():
                self._answer_expired(entry)

    def drop_late(self, load: Callable[[], EncoderLoad]) -> None:
        """Refuse what would be done too late, unless that is all there is: then the estimate may be what is wrong.

        Args:
            load: Says how busy the encoder is.
        """
        now = time.monotonic()
        if self.queue.num_items > MANY and now < self._looked_at + LOOK_S:
            return
        self._looked_at, found = now, load()
        requests = self.queue.late(lambda request, cost: found.is_late(request, cost, now))
        entries = [entry for request in requests for entry in request.entries]
        if entries and len(entries) < self.queue.num_items:
            error = late(found.drain_s)
            for entry in self.drop(entries):
                if entry.context.deadline.has_passed:
                    self._answer_expired(entry)
                else:
                    self._observer.expired("forecast")
                    entry.answer(error)

    def _is_wanted(self, entry: Entry) -> bool:
        if is_wanted(entry):
            return True
        self.tell_expired([entry])
        return False

    def _answer_expired(self, entry: Entry) -> None:
        self._observer.expired("queue")
        entry.answer(entry.context.deadline.error("queue"))

    def _tell(self) -> None:
        """Have the observer know of lanes that have changed."""
        for lane in PRIORITIES:
            num = self.queue.num_in(lane)
            if num != self._told.get(lane, 0):
                self._told[lane] = num
                self._observer.queued(self._key, lane, num)
