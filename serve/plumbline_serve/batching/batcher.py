"""Batches across requests, formed when the encoder becomes free.

A batch is never sealed while the encoder is busy: whatever has arrived by the time it is free goes together, so
batches grow with load and a lone input waits for nobody. Where the encoder computes several batches at a time, what
waits is divided among its free streams. When the queue is short but further inputs are known to
be on their way (still being decoded), the batch waits for them for as long as a batch of its own would cost them
beyond their share of this one (see `pace`), and at most `max_linger_s`.

Two lanes keep a caller's single image from standing behind another's thousand: inputs of large calls ride in the
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
from typing import TypeAlias

from plumbline_models.core.errors import EngineError, OverloadedError, PlumblineError, RequestError
from plumbline_models.core.protocols import Encoder, Encoding, Preprocessed
from plumbline_serve.batching.compute import EncodedBatch
from plumbline_serve.batching.lanes import LANES, Entry, Lane, LaneQueue
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.batching.pace import Pace
from plumbline_serve.concurrency import Deadline, named_threads, release

# A batch that fails is halved until the culprit stands alone, so that no input takes its neighbours with it.
#
# Where both halves fail alike, an input that was encoded before is tried again: if it fails too, the encoder is at
# fault and not its inputs, and halving further would only repeat the failure. Before any input was encoded, two
# halves that fail alike are taken for that.

log = logging.getLogger(__name__)

EncodingOrError: TypeAlias = Encoding | PlumblineError


@dataclass(frozen=True, slots=True)
class BatchRows:
    """What became of a batch."""

    rows: Sequence[EncodingOrError]
    """A row or an error for each input, in order."""
    is_broken: bool
    """Whether the encoder is at fault: nothing was encoded, nor an input that had been encoded before."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: PlumblineError
    kind: type[Exception]


class HalvingEncoder:
    """Runs an encoder's batches; as many threads may call it as the encoder has streams."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._proven: tuple[Preprocessed] | None = None
        """The cheapest input that was encoded so far."""

    def encode_each(self, inputs: Sequence[Preprocessed]) -> BatchRows:
        """Encode inputs of one bucket; raises nothing."""
        rows = self._rows(inputs, self._run(inputs))
        self._remember(inputs, rows)
        is_at_fault = all(isinstance(row, PlumblineError) and not isinstance(row, RequestError) for row in rows)
        return BatchRows(rows, is_broken=is_at_fault and not self._still_encodes())

    def _rows(
        self, inputs: Sequence[Preprocessed], found: Sequence[EncodingOrError] | _Failure
    ) -> Sequence[EncodingOrError]:
        if not isinstance(found, _Failure):
            return found
        if len(inputs) == 1:
            return [found.error]
        middle = len(inputs) // 2
        halves = inputs[:middle], inputs[middle:]
        first, second = (self._run(half) for half in halves)
        if isinstance(first, _Failure) and isinstance(second, _Failure):
            if first.kind is second.kind and not self._still_encodes():
                return [found.error] * len(inputs)
        else:
            self._remember(*((halves[1], second) if isinstance(first, _Failure) else (halves[0], first)))
        return [*self._rows(halves[0], first), *self._rows(halves[1], second)]

    def _run(self, inputs: Sequence[Preprocessed]) -> Sequence[EncodingOrError] | _Failure:
        key = self._encoder.key
        try:
            rows = self._encoder.encode(inputs)
        except Exception as error:
            log.exception("encoder %s failed on a batch of %d", key, len(inputs))
            release(error)
            shown = EngineError("The encoder failed on this input.", encoder=key, cause=repr(error))
            return _Failure(error if isinstance(error, PlumblineError) else shown, type(error))
        if len(rows) == len(inputs):
            return rows
        lost = EngineError("The encoder lost a part of the batch.", got=len(rows), sent=len(inputs))
        return _Failure(lost, EngineError)

    def _still_encodes(self) -> bool:
        """Whether the encoder makes a row of an input that it made one of before."""
        if self._proven is None:
            return False
        found = self._run(self._proven)
        return not isinstance(found, _Failure) and not isinstance(found[0], PlumblineError)

    def _remember(self, inputs: Sequence[Preprocessed], rows: Sequence[EncodingOrError] | _Failure) -> None:
        if isinstance(rows, _Failure):
            return
        encoded = [each for each, row in zip(inputs, rows, strict=True) if not isinstance(row, PlumblineError)]
        candidates = [*(self._proven or ()), *encoded]
        if candidates:
            self._proven = (min(candidates, key=self._encoder.cost),)


log = logging.getLogger(__name__)

BULK_LEADS_EVERY = 4  # batches; bounds how long bulk work can starve
BULK_FROM = 32  # inputs a call; fewer are interactive
STUCK_FACTOR = 5.0  # of what a batch would take at the pace of the slowest of late: longer is not believable
MAX_BROKEN = 3  # batches in a row that the encoder is at fault for, before it is given up
EXPIRY_GRACE_S = 0.05  # callers whose own clock ends the wait go first, and take their inputs with them
DRAIN_RATE_WEIGHT = 0.2  # of the newest batch in the moving average that Retry-After comes from


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
        load_s: Seconds that loading the encoder took, with the first input that it ran.
    """

    def __init__(self, encoder: Encoder, limits: BatchLimits, observer: BatchObserver, *, load_s: float = 0.0) -> None:
        self._encoder = encoder
        self._halving = HalvingEncoder(encoder)
        self._limits = limits
        self._observer = observer
        self._lanes: dict[Lane, LaneQueue] = {lane: LaneQueue() for lane in LANES}
        self._arrival = asyncio.Event()
        self._num_expected = 0
        self._num_batches = itertools.count(1)
        self._rate_per_s = 0.0
        self._num_broken = 0
        self._pace = Pace(load_s)
        self._load_s = load_s
        self._num_streams = encoder.info().num_streams
        self._forming = asyncio.Lock()
        self._busy_since: dict[int, float] = {}
        self._stuck_at: dict[int, float] = {}
        self._threads = named_threads(self._num_streams, f"encode {encoder.kind}")
        self._streams = [
            asyncio.create_task(self._run(stream), name=f"batcher {encoder.key} {stream}")
            for stream in range(self._num_streams)
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
        is_stuck = time.monotonic() >= min(self._stuck_at.values(), default=math.inf)
        return not is_stuck and self._num_broken < MAX_BROKEN and not any(map(asyncio.Task.done, self._streams))

    def expect(self, num_inputs: int) -> None:
        """Announce inputs that are being prepared, or take that back with a negative number."""
        self._num_expected = max(0, self._num_expected + num_inputs)
        if self._num_expected == 0:
            self._arrival.set()

    async def encode(self, inputs: Sequence[Preprocessed], deadline: Deadline) -> EncodedBatch:
        """Encode inputs together with those of other callers.

        Returns:
            A row or an error for each input, in order; an input whose deadline passed first has that error.

        Raises:
            OverloadedError: The queue has no room for all of them.
        """
        entries = self._enqueue(inputs, deadline)
        loop, is_bound = asyncio.get_running_loop(), math.isfinite(deadline.at_s)
        expiry = loop.call_at(deadline.at_s + EXPIRY_GRACE_S, self._expire, entries) if is_bound else None
        try:
            rows = await asyncio.gather(*(entry.future for entry in entries))
        finally:
            if expiry is not None:
                expiry.cancel()
            self._drop(entries)
        queued_at = entries[0].queued_at if entries else 0.0
        starts = [entry.started_at for entry in entries if entry.started_at]
        first, last = (
            min(starts, default=queued_at),
            max((entry.ended_at for entry in entries), default=queued_at),
        )
        return EncodedBatch(rows=rows, queue_s=first - queued_at, compute_s=max(0.0, last - first))

    async def close(self) -> None:
        """Stop; inputs that still wait are answered with an error."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        self._threads.shutdown(wait=False)

    def _see_end(self, stream: "asyncio.Task[None]") -> None:
        """A stream has ended, stopped or through a fault of ours; with the last one nobody may wait any longer."""
        if not stream.cancelled() and (fault := stream.exception()) is not None:
            log.error("%s has failed", stream.get_name(), exc_info=fault)
        if all(map(asyncio.Task.done, self._streams)):
            for entry in [entry for queue in self._lanes.values() for entry in queue.drain_all()]:
                entry.answer(_stopped())

    def _enqueue(self, inputs: Sequence[Preprocessed], deadline: Deadline) -> list[Entry]:
        if all(map(asyncio.Task.done, self._streams)):
            raise _stopped()
        if self.num_queued + len(inputs) > self._limits.max_queued and (self.num_queued or not inputs):
            raise OverloadedError(
                "The service has more work than it can queue; try again later.",
                retry_after_s=self._drain_s(),
                encoder=self._encoder.key,
            )
        lane: Lane = "bulk" if len(inputs) >= BULK_FROM else "interactive"
        loop, now = asyncio.get_running_loop(), time.monotonic()
        entries = [
            Entry(
                item,
                self._encoder.cost(item),
                self._encoder.bucket(item),
                deadline,
                loop.create_future(),
                now,
            )
            for item in inputs
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

    def _drain_s(self) -> float:
        """Seconds until today's queue is served, by the rate of the last batches."""
        return self.num_queued / (self._rate_per_s * self._num_streams) if self._rate_per_s else 1.0

    async def _run(self, stream: int) -> None:
        while True:
            async with self._forming:
                while not self.num_queued:
                    self._arrival.clear()
                    await self._arrival.wait()
                await self._linger()
                batch = self._take_batch() if self.num_queued else []  # all may have left meanwhile
            if batch:
                await self._compute(batch, stream)

    async def _linger(self) -> None:
        """Wait while the batch is not full and more inputs are on their way, until the oldest has waited enough."""
        oldest = min(queue.oldest_s for queue in self._lanes.values())
        until = oldest + min(self._limits.max_linger_s, self._pace.fixed_s)
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
        most_items = math.ceil(self.num_queued / (self._num_streams - len(self._busy_since)))
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

    async def _compute(self, batch: list[Entry], stream: int) -> None:
        started = self._busy_since[stream] = time.monotonic()
        cost = sum(entry.cost for entry in batch)
        self._stuck_at[stream] = started + self._believable_s(cost)
        for entry in batch:
            entry.started_at = started
            self._observer.waited(started - entry.queued_at)
        loop = asyncio.get_running_loop()
        inputs = [entry.preprocessed for entry in batch]
        try:
            encoded = await loop.run_in_executor(self._threads, self._halving.encode_each, inputs)
        except BaseException:
            for entry in batch:
                entry.answer(_stopped())
            raise
        finally:
            del self._busy_since[stream], self._stuck_at[stream]
            ended = time.monotonic()
            for entry in batch:
                entry.ended_at = ended
        for entry, row in zip(batch, encoded.rows, strict=True):
            entry.answer(row)
        self._num_broken = self._num_broken + 1 if encoded.is_broken else 0
        if encoded.is_broken:
            self._observer.broke(self._encoder.key)
        seconds = max(ended - started, 1e-6)
        self._pace.learn(cost, seconds)
        newest = len(batch) / seconds
        self._rate_per_s += (DRAIN_RATE_WEIGHT if self._rate_per_s else 1.0) * (newest - self._rate_per_s)
        self._observer.batch(self._encoder.key, len(batch), seconds)

    def _believable_s(self, cost: float) -> float:
        """Seconds after which a batch of that cost is stuck; an engine that is built anew takes what loading took."""
        return max(self._limits.min_stuck_s, self._load_s, STUCK_FACTOR * self._pace.slowest_s(cost))


def _stopped() -> EngineError:
    return EngineError("The encoder was stopped.")
