"""Batches across requests, formed when the encoder becomes free.

A batch is never sealed while the encoder is busy: whatever has arrived by the time it is free goes together, so
batches grow with load and a lone input waits for nobody. Where the encoder computes several batches at a time, what
waits is divided among its free streams. When the queue is short but further inputs are known to
be on their way (still being decoded), the batch waits for them for as long as a batch of its own would cost them
beyond their share of this one (see `runner`), and at most `max_linger_s`.

Two lanes keep a caller's single image from standing behind another's thousand: inputs of large calls take the
`bulk` lane, which leads every fourth batch and fills what room the `interactive` lane leaves in the others.

What nobody waits for any more, because its caller left or its deadline passed, leaves the queue at once.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline_models.core.errors import EngineError, OverloadedError
from plumbline_models.core.protocols import Encoder, Preprocessed
from plumbline_serve.batching.lanes import LANES, Entry, Lane, LaneQueue
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.batching.runner import BatchRunner, EncodingOrError
from plumbline_serve.request_context import RequestContext

BULK_LEADS_EVERY = 4  # batches; bounds how long bulk work can starve
BULK_FROM = 32  # inputs of one call; fewer are interactive
EXPIRY_GRACE_S = 0.05  # callers whose own clock ends the wait go first, and take their inputs with them

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What came back for one call, and where the time went."""

    encodings: Sequence[EncodingOrError]
    """An encoding or an error for each input, in order."""
    queue_s: float
    """From the call to the start of its first batch."""
    compute_s: float
    """From the start of its first batch to the end of its last."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How far a batcher may go."""

    max_queued: int
    """Inputs that may wait; further calls are refused."""
    max_linger_s: float
    """Longest wait for inputs that are on their way."""
    max_batch: float = math.inf
    """The most cost of one batch, where the encoder would take more."""
    min_stuck_s: float = 60.0
    """Seconds that any batch may take, however fast the others were: it may be the first of its shape."""


class Batcher:
    """Shares one encoder among all callers of one process; bound to one event loop.

    Args:
        encoder: Loaded.
        limits: How far it may go.
        observer: Hears of every batch.
        load_s: Seconds that loading the encoder took, with the first input that it ran.
    """

    def __init__(self, encoder: Encoder, limits: BatchLimits, observer: BatchObserver, *, load_s: float = 0.0) -> None:
        self._encoder = encoder
        self._limits = limits
        self._observer = observer
        self._runner = BatchRunner(encoder, load_s=load_s, min_stuck_s=limits.min_stuck_s)
        self._lanes: dict[Lane, LaneQueue] = {lane: LaneQueue() for lane in LANES}
        self._arrival = asyncio.Event()
        self._num_expected = 0
        self._num_batches = itertools.count(1)
        self._forming = asyncio.Lock()
        self._streams = [
            asyncio.create_task(self._run(), name=f"batcher {encoder.key} {stream}")
            for stream in range(self._runner.num_streams)
        ]
        for task in self._streams:
            task.add_done_callback(self._see_end)

    @property
    def num_queued(self) -> int:
        """Inputs that wait."""
        return sum(queue.num_items for queue in self._lanes.values())

    @property
    def is_alive(self) -> bool:
        """Whether batches are still formed and encoded, and none has been computing for longer than is believable."""
        return self._runner.is_alive and not any(map(asyncio.Task.done, self._streams))

    def expect(self, num_inputs: int) -> None:
        """Announce inputs that are being preprocessed, or take that back with a negative number."""
        self._num_expected = max(0, self._num_expected + num_inputs)
        if self._num_expected == 0:
            self._arrival.set()

    async def encode(self, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """Encode inputs together with those of other callers.

        Args:
            inputs: As the encoder preprocesses them.
            context: Of the request; an input whose turn does not come by its deadline has that error.

        Raises:
            OverloadedError: The queue has no room for all of them.
        """
        entries = self._enqueue(inputs, context)
        deadline = context.deadline
        loop, is_bound = asyncio.get_running_loop(), math.isfinite(deadline.at_s)
        expiry = loop.call_at(deadline.at_s + EXPIRY_GRACE_S, self._expire, entries) if is_bound else None
        try:
            encodings = await asyncio.gather(*(entry.future for entry in entries))
        finally:
            if expiry is not None:
                expiry.cancel()
            self._drop(entries)
        queued_at = entries[0].queued_at if entries else 0.0
        starts = [entry.started_at for entry in entries if entry.started_at]
        first = min(starts, default=queued_at)
        last = max((entry.ended_at for entry in entries), default=queued_at)
        return EncodedBatch(encodings=encodings, queue_s=first - queued_at, compute_s=max(0.0, last - first))

    async def close(self) -> None:
        """Stop; inputs that still wait are answered with an error."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        self._runner.close()

    def _see_end(self, stream: "asyncio.Task[None]") -> None:
        """A stream has ended, stopped or through a fault of ours; with the last one nobody may wait any longer."""
        if not stream.cancelled() and (fault := stream.exception()) is not None:
            log.error("%s has failed", stream.get_name(), exc_info=fault)
        if all(map(asyncio.Task.done, self._streams)):
            for entry in [entry for queue in self._lanes.values() for entry in queue.drain_all()]:
                entry.answer(_stopped())

    def _enqueue(self, inputs: Sequence[Preprocessed], context: RequestContext) -> list[Entry]:
        if all(map(asyncio.Task.done, self._streams)):
            raise _stopped()
        if self.num_queued + len(inputs) > self._limits.max_queued and (self.num_queued or not inputs):
            raise OverloadedError(
                "The service has more work than it can queue; try again later.",
                retry_after_s=self._runner.drain_s(self.num_queued),
                encoder=self._encoder.key,
            )
        lane: Lane = "bulk" if len(inputs) >= BULK_FROM else "interactive"
        loop, now = asyncio.get_running_loop(), time.monotonic()
        encoder = self._encoder
        entries = [
            Entry(each, encoder.cost(each), encoder.bucket(each), context.deadline, loop.create_future(), now)
            for each in inputs
        ]
        for entry in entries:
            self._lanes[lane].push(entry)
        self._observer.queued(self._encoder.key, lane, self._lanes[lane].num_items)
        self._arrival.set()
        return entries

    @property
    def _most(self) -> float:
        """Cost of one batch; encoders know theirs once they are loaded."""
        return min(self._encoder.max_batch_cost, self._limits.max_batch)

    async def _run(self) -> None:
        while True:
            async with self._forming:
                while not self.num_queued:
                    self._arrival.clear()
                    await self._arrival.wait()
                await self._linger()
                batch = self._take_batch() if self.num_queued else []  # all may have left meanwhile
            if batch:
                await self._compute(batch)

    async def _linger(self) -> None:
        """Wait while the batch is not full and more inputs are on their way, until the oldest has waited enough."""
        oldest = min(queue.oldest_s for queue in self._lanes.values())
        until = oldest + min(self._limits.max_linger_s, self._runner.pace.fixed_s)
        while 0 < self.num_queued < self._most and self._num_expected:
            self._arrival.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrival.wait()
            except TimeoutError:
                return

    def _take_batch(self) -> list[Entry]:
        """Take one bucket's inputs up to the cost limit, passing over those that nobody waits for.

        Where further streams are free, no more than an equal share of all that waits.
        """
        most_items = math.ceil(self.num_queued / self._runner.num_free)
        order: tuple[Lane, ...] = LANES if next(self._num_batches) % BULK_LEADS_EVERY else LANES[::-1]
        lead: Lane = next(lane for lane in order if self._lanes[lane].num_items)
        bucket = self._lanes[lead].oldest_bucket()
        batch: list[Entry] = []
        room = self._most
        for lane in order if order[0] == lead else order[::-1]:
            for entry in self._lanes[lane].drain(bucket):
                if not self._is_wanted(entry):
                    continue
                if batch and (entry.cost > room or len(batch) == most_items):
                    self._lanes[lane].put_back(entry)
                    room = 0.0
                    break
                batch.append(entry)
                room -= entry.cost
            self._observer.queued(self._encoder.key, lane, self._lanes[lane].num_items)
        return batch

    def _is_wanted(self, entry: Entry) -> bool:
        if entry.future.done():
            return False
        if entry.deadline.has_passed:
            self._answer_expired(entry)
            return False
        return True

    def _answer_expired(self, entry: Entry) -> None:
        self._observer.expired("queue")
        entry.answer(entry.deadline.error("queue"))

    def _expire(self, entries: Sequence[Entry]) -> None:
        """Answer those that still wait although their deadline has passed."""
        for entry in self._drop(entries):
            self._answer_expired(entry)

    def _drop(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take out of the queue those that still stand in it."""
        dropped = []
        for lane, queue in self._lanes.items():
            left = [entry for entry in entries if not entry.started_at and queue.discard(entry)]
            if left:
                self._observer.queued(self._encoder.key, lane, queue.num_items)
            dropped += left
        if dropped:
            self._arrival.set()
        return dropped

    async def _compute(self, batch: list[Entry]) -> None:
        started = time.monotonic()
        for entry in batch:
            entry.started_at = started
            self._observer.waited(started - entry.queued_at)
        try:
            inputs, cost = [entry.preprocessed for entry in batch], sum(entry.cost for entry in batch)
            result, seconds = await self._runner.run(inputs, cost)
        except BaseException:
            for entry in batch:
                entry.answer(_stopped())
            raise
        finally:
            ended = time.monotonic()
            for entry in batch:
                entry.ended_at = ended
        for entry, encoding in zip(batch, result.encodings, strict=True):
            entry.answer(encoding)
        if result.is_broken:
            self._observer.broke(self._encoder.key)
        self._observer.batch(self._encoder.key, len(batch), seconds)


def _stopped() -> EngineError:
    return EngineError("The encoder was stopped.")
