"""Batches across requests, formed when the encoder becomes free.

A batch is never sealed while the encoder is busy: whatever has arrived by the time it is free goes together, so
batches grow with load and a lone input waits for nobody. Where the encoder computes several batches at a time, what
waits is divided among its free streams. When the queue is short but further inputs are known to
be on their way (still being decoded), the batch waits for them for as long as a batch of its own would cost them
beyond their share of this one (see `pace`), and at most `max_linger_s`. Texts wait for their images (see `siblings`),
and long batches on a CPU for a turn (see `cores`).
Whose inputs a batch takes is a matter of shares (see `input_queue`). The inputs of deterministic requests go alone, for
the shape of a batch decides in which order its sums are taken, and so the last bits.

What nobody waits for any more, because its caller left or its deadline passed, leaves the queue at once; so does what
would be done only after its deadline.
"""

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from plumbline_models.core.errors import EngineError, OverloadedError
from plumbline_models.core.protocols import Encoder, Preprocessed
from plumbline_serve.batching.cores import SHORT_S, Cores
from plumbline_serve.batching.input_queue import Entry, is_wanted
from plumbline_serve.batching.load import EncoderLoad, overloaded
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.batching.pace import ArrivalRate
from plumbline_serve.batching.runner import BatchRunner, EncodedBatch
from plumbline_serve.batching.siblings import MAX_EARLY_S, Siblings
from plumbline_serve.batching.waiting import Waiting
from plumbline_serve.scheduling.request_context import Priority, RequestContext

EXPIRY_GRACE_S = 0.05  # callers whose own clock ends the wait go first, and take their inputs with them
NEWEST_COST = 0.02  # what an input weighs in the average that announced ones are counted with

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How far a batcher may go."""

    max_queued: int
    """Inputs that may wait; further calls are refused, but where others have more than their part of them."""
    max_linger_s: float
    """Longest wait for inputs that are on their way."""
    max_batch: float = math.inf
    """The most cost of one batch, where the encoder would take more."""
    is_adaptive: bool = True
    """Whether batches are smaller than that where it costs little, as learnt from what they took."""
    min_stuck_s: float = 60.0
    """Seconds that any batch may take, however fast the others were: it may be the first of its shape."""


class Batcher:
    """Shares one encoder among all callers of one process; bound to one event loop.

    Args:
        encoder: Loaded.
        limits: How far it may go.
        observer: Hears of every batch.
        load_s: Seconds that loading the encoder took, with the first input that it ran.
        siblings: The batchers of this process, which this one joins.
        cores: At which its long batches take turns with those of others; None: it computes elsewhere.
    """

    runner_class: ClassVar[type[BatchRunner]] = BatchRunner

    def __init__(
        self,
        encoder: Encoder,
        limits: BatchLimits,
        observer: BatchObserver,
        *,
        load_s: float = 0.0,
        siblings: Siblings | None = None,
        cores: Cores | None = None,
    ) -> None:
        self._encoder = encoder
        self._limits = limits
        self._observer = observer
        self._runner = self.runner_class(encoder, load_s=load_s, min_stuck_s=limits.min_stuck_s)
        self._waiting = Waiting(encoder.key, observer, self.wake)
        self._queue = self._waiting.queue
        self._rates: defaultdict[Priority, ArrivalRate] = defaultdict(ArrivalRate)
        self._input_cost = 1.0
        self._most = min(encoder.max_batch_cost, limits.max_batch)
        """Cost of the largest batch; encoders know theirs once they are loaded."""
        self._arrival = asyncio.Event()
        self._expected: Counter[RequestContext] = Counter()
        self._siblings = siblings or Siblings()
        self._siblings.add(self)
        self._cores = cores
        self._waits_for_cores = False
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
        return self._queue.num_items

    @property
    def is_alive(self) -> bool:
        """Whether batches are still formed and encoded, and none has been computing for longer than is believable."""
        return self._runner.is_alive and not any(map(asyncio.Task.done, self._streams))

    @property
    def load(self) -> EncoderLoad:
        """How busy the encoder is, at this moment."""
        runner = self._runner
        return EncoderLoad(
            line=runner.pace.line,
            max_batch=self._batch_cost(),
            num_streams=runner.num_streams,
            left_s=runner.left_s,
            input_cost=self._input_cost,
            arrival_rates=self._arrival_rates,
            backlog=self._queue.backlog,
            turn_s=self._cores.wait_s if self._cores else 0.0,
        )

    @property
    def is_busy(self) -> bool:
        """As `Sibling.is_busy`."""
        return self._waits_for_cores or not self._runner.num_free

    @property
    def input_s(self) -> float:
        """As `Sibling.input_s`."""
        return self._runner.pace.line.seconds(self._input_cost, self._most)

    def has(self, context: RequestContext) -> bool:
        """As `Sibling.has`."""
        return context in self._expected or self._queue.has(context)

    def wake(self) -> None:
        """As `Sibling.wake`."""
        self._arrival.set()

    def expect(self, context: RequestContext, num_inputs: int) -> None:
        """Announce inputs that are being preprocessed, or take that back with a negative number.

        Args:
            context: Of their request.
            num_inputs: How many.
        """
        self._expected[context] += num_inputs
        if self._expected[context] <= 0:
            del self._expected[context]
            self._siblings.changed(self)
        if not self._expected:
            self._arrival.set()

    def reserve(self, context: RequestContext, num_inputs: int) -> None:
        """Give a request its place in the queue before its inputs are there; `release` ends that.

        Args:
            context: The request's.
            num_inputs: That are to come.
        """
        self._queue.announce(context, num_inputs * self._charges(context, [self._input_cost])[0])

    def release(self, context: RequestContext) -> None:
        """Nothing further comes of a request."""
        self._queue.forget(context)

    async def encode(self, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """Encode inputs together with those of other callers.

        Args:
            inputs: As the encoder preprocesses them.
            context: Of the request; an input whose turn does not come by its deadline has that error.

        Raises:
            OverloadedError: The queue has no room for all of them, or they would be done too late.
        """
        entries = self._enqueue(inputs, context)
        loop, at_s = asyncio.get_running_loop(), context.deadline.at_s + EXPIRY_GRACE_S
        expiry = loop.call_at(at_s, self._waiting.expire, entries) if math.isfinite(at_s) else None
        try:
            encodings = [await entry.future for entry in entries]
        finally:
            if expiry is not None:
                expiry.cancel()
            for entry in entries:
                entry.future.cancel()  # what is not answered is not wanted any more
            self._waiting.drop(entries)
        for encoding in encodings:
            if isinstance(encoding, OverloadedError):
                raise OverloadedError(encoding.detail, **encoding.facts)
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
            for entry in self._waiting.drop(self._queue.entries()):
                entry.answer(_stopped())

    def _enqueue(self, inputs: Sequence[Preprocessed], context: RequestContext) -> list[Entry]:
        if all(map(asyncio.Task.done, self._streams)):
            raise _stopped()
        if not self._has_room(context, len(inputs)):
            drain_s = self.load.drain_s
            raise overloaded("The service has more work than it can queue; try again later.", "full", drain_s, drain_s)
        now, costs = time.monotonic(), [self._encoder.cost(each) for each in inputs]
        new_future = asyncio.get_running_loop().create_future
        entries = [
            Entry(each, charge, self._bucket(each, context), context, new_future(), now)
            for each, charge in zip(inputs, self._charges(context, costs), strict=True)
        ]
        size = math.fsum(entry.cost for entry in entries)
        self._rates[context.priority].count(size, now, self._runner.pace.line.rate_over_s(self._most))
        for cost in costs:
            self._input_cost += NEWEST_COST * (cost - self._input_cost)
        self._waiting.push(entries, size)
        return entries

    def _has_room(self, context: RequestContext, num_inputs: int) -> bool:
        most = self._limits.max_queued
        if self.num_queued + num_inputs <= most or (num_inputs and not self.num_queued):
            return True
        return self._queue.is_below_its_part(context, num_inputs, most)

    def _charges(self, context: RequestContext, costs: Sequence[float]) -> Sequence[float]:
        """What inputs count as in the queue; how busy the encoder is need not be known where that is their cost."""
        if not context.is_deterministic:
            return costs
        load = self.load
        return [load.charge(context, cost) for cost in costs]

    def _bucket(self, given: Preprocessed, context: RequestContext) -> Hashable:
        """What the input may share a batch with; a deterministic request's, with none: it has a bucket of its own."""
        return object() if context.is_deterministic else self._encoder.bucket(given)

    def _batch_cost(self, *, looks: bool = False) -> float:
        return self._runner.pace.batch_cost(self._most, looks=looks) if self._limits.is_adaptive else self._most

    @property
    def _arrival_rates(self) -> dict[Priority, float]:
        now, over_s = time.monotonic(), self._runner.pace.line.rate_over_s(self._most)
        return {lane: rate.at(now, over_s) for lane, rate in self._rates.items()}

    async def _run(self) -> None:
        while True:
            async with AsyncExitStack() as held:
                async with self._forming:
                    while not self.num_queued:
                        self._arrival.clear()
                        await self._arrival.wait()
                    await self._linger()
                    turn = await self._turn(held)
                    self._waiting.drop_late(lambda: self.load)
                    batch = self._take_batch() if self.num_queued else []  # all may have left meanwhile
                if batch:
                    await self._compute(batch, turn)

    async def _turn(self, held: AsyncExitStack) -> AbstractContextManager[Any]:
        """Wait for a turn at the cores where the next batch needs one; gives what it is computed in."""
        most = self._batch_cost()
        takes_s = self._runner.pace.line.seconds(min(most, self.num_queued * self._input_cost), most)
        if self._cores is None or takes_s <= SHORT_S:
            return nullcontext()
        self._waits_for_cores = True
        try:
            return (await held.enter_async_context(self._cores)).computing
        finally:
            self._waits_for_cores = False

    async def _linger(self) -> None:
        """Wait while the batch is not full and more inputs are on their way, until the oldest has waited enough."""
        if (lead := self._queue.first()) is not None and lead.context.is_deterministic:
            return  # it goes alone
        await self._wait_while(lambda: bool(self._expected), min(self._limits.max_linger_s, self._runner.pace.fixed_s))
        if self._encoder.kind == "text":
            await self._wait_while(lambda: self._siblings.all_wait(self, self._queue.contexts), MAX_EARLY_S)

    async def _wait_while(self, pays: Callable[[], bool], max_s: float) -> None:
        """Let inputs come while the batch is not full and waiting pays, until the oldest has waited for so long."""
        until = self._queue.oldest_s + max_s
        while 0 < self.num_queued < self._batch_cost() and pays():
            self._arrival.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrival.wait()
            except TimeoutError:
                return

    def _take_batch(self) -> list[Entry]:
        """Take one bucket's inputs, as many as make a good batch, passing over those that nobody waits for.

        Where further streams are free, no more than an equal share of all that waits.
        """
        max_items = math.ceil(self.num_queued / self._runner.num_free)
        return self._waiting.take(self._batch_cost(looks=True), max_items, self.load)

    async def _compute(self, batch: list[Entry], turn: AbstractContextManager[Any]) -> list[Entry]:
        """Answer a batch; returns what was computed: all of it that was still wanted when its turn had come."""
        formed_s, taken = time.monotonic(), list[Entry]()
        for entry in batch:
            entry.started_at = formed_s  # it has left the queue

        def take() -> list[Preprocessed]:
            taken.extend(filter(is_wanted, batch))
            return [entry.preprocessed for entry in taken]

        try:
            cost = sum(self._encoder.cost(entry.preprocessed) for entry in batch)
            self._siblings.changed(self)
            result, seconds = await self._runner.run(take, cost, turn)
        except BaseException:
            for entry in batch:
                entry.answer(_stopped())
            raise
        finally:
            self._siblings.changed(self)
            ended = time.monotonic()
            for entry in batch:
                entry.ended_at = ended
        for entry in batch:
            entry.started_at = ended - seconds
            self._observer.waited(entry.started_at - entry.queued_at)
        num_unwanted = len(taken) - sum(map(is_wanted, taken))
        for entry, encoding in zip(taken, result.encodings, strict=True):
            entry.answer(encoding)
        self._waiting.tell_expired(batch)
        if result.is_broken:
            self._observer.broke(self._encoder.key)
        if taken:
            self._observer.batch(self._encoder.key, len(taken), seconds, num_unwanted=num_unwanted)
        return taken


def _stopped() -> EngineError:
    return EngineError("The encoder was stopped.")
