"""What an encoder's batches take of a request, as spans of its trace: its wait, its batch, and the engine in that.

Requests share batches, so each gets spans of its own for the batch that it was in, of the same times and under the same
number. They are written once the batch is over, with the times that were noted: nothing is begun on the encoder's
threads.
"""

import contextvars
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context

from plumbline_models.core.protocols import Encoder, Encoding, Preprocessed
from plumbline_serve.batching.batcher import Batcher, BatchLimits
from plumbline_serve.batching.input_queue import Entry
from plumbline_serve.batching.observer import BatchObserver
from plumbline_serve.batching.runner import BatchResult, BatchRunner, EncodedBatch
from plumbline_serve.scheduling.request_context import RequestContext

_Window: TypeAlias = tuple[float, float]
_RUNS: contextvars.ContextVar[list[_Window]] = contextvars.ContextVar("engine runs")
"""When the engine ran for the batch under way, on the monotonic clock."""
_numbers = itertools.count(1)


class _TimedEncoder:
    """An encoder that notes when it ran; a batch that fails is run in parts."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, batch: Sequence[Preprocessed]) -> Sequence[Encoding]:
        """As `Encoder.encode`."""
        started = time.monotonic()
        try:
            found: Sequence[Encoding] = self._encoder.encode(batch)
        finally:
            _RUNS.get([]).append((started, time.monotonic()))
        return found


class TracedRunner(BatchRunner):
    """Its threads know for which batch they run."""

    def __init__(self, encoder: Encoder, *, load_s: float, min_stuck_s: float) -> None:
        timed: Any = _TimedEncoder(encoder)
        super().__init__(timed, load_s=load_s, min_stuck_s=min_stuck_s)

    def work(self) -> Callable[[Sequence[Preprocessed]], BatchResult]:
        """As `BatchRunner.work`, in the context of the batch."""
        work, context = super().work(), contextvars.copy_context()
        return lambda inputs: context.run(work, inputs)


class TracedBatcher(Batcher):
    """A batcher whose calls are spans.

    Args:
        encoder: As `Batcher` has it.
        limits: As there.
        observer: As there.
        tracer: Begins spans.
        **others: As there.
    """

    runner_class = TracedRunner

    def __init__(
        self, encoder: Encoder, limits: BatchLimits, observer: BatchObserver, *, tracer: trace.Tracer, **others: Any
    ) -> None:
        self._tracer = tracer
        self._key = encoder.key
        self._parents: dict[RequestContext, Context] = {}
        super().__init__(encoder, limits, observer, **others)

    async def encode(self, inputs: Sequence[Preprocessed], context: RequestContext) -> EncodedBatch:
        """As `Batcher.encode`.

        Args:
            inputs: As there.
            context: As there.
        """
        attributes: dict[str, str | int] = {"plumbline.encoder": self._key, "plumbline.num_inputs": len(inputs)}
        with self._tracer.start_as_current_span("encode", attributes=attributes, record_exception=False):
            self._parents[context] = parent = trace.set_span_in_context(trace.get_current_span())
            try:
                return await super().encode(inputs, context)
            finally:
                if self._parents.get(context) is parent:
                    del self._parents[context]

    async def _compute(self, batch: list[Entry], turn: AbstractContextManager[Any]) -> list[Entry]:
        runs: list[_Window] = []
        token = _RUNS.set(runs)
        try:
            taken = await super()._compute(batch, turn)
        finally:
            _RUNS.reset(token)
        number = next(_numbers)
        for entry in {each.context: each for each in reversed(taken)}.values():  # the first of each request
            if (parent := self._parents.get(entry.context)) is not None:
                self._write(parent, entry, runs, {"plumbline.batch": number, "plumbline.batch_size": len(taken)})
        return taken

    def _write(self, parent: Context, entry: Entry, runs: Sequence[_Window], attributes: dict[str, int]) -> None:
        self._span("queue", parent, (entry.queued_at, entry.started_at), {})
        batch = self._span("batch", parent, (entry.started_at, entry.ended_at), attributes)
        for window in runs:
            self._span("engine", batch, window, attributes)

    def _span(self, name: str, parent: Context, window: _Window, attributes: dict[str, int]) -> Context:
        """Write a span that is over; gives what is parent to spans below it."""
        since_1970 = time.time() - time.monotonic()
        begin, end = (int((each + since_1970) * 1e9) for each in window)
        span = self._tracer.start_span(name, context=parent, start_time=begin, attributes=attributes)
        span.end(end)
        return trace.set_span_in_context(span)
