"""Runs an encoder's batches on threads: inputs that fail alone, how long batches take, and when one is stuck.

A batch that fails is halved until the culprit stands alone, so that no input takes its neighbours with it. Where both
halves fail alike, an input that was encoded before is tried again: if it fails too, the encoder is at fault and not
its inputs, and halving further would only repeat the failure. Before any input was encoded, two halves that fail alike
are taken for that.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from plumbline_models.core.errors import EngineError, PlumblineError, RequestError
from plumbline_models.core.protocols import Encoder, Encoding, Preprocessed
from plumbline_serve.batching.pace import Pace
from plumbline_serve.scheduling.concurrency import named_threads, release

STUCK_FACTOR = 5.0  # of what a batch would take at the pace of the slowest of late: longer is not believable
MAX_BROKEN = 3  # batches in a row that the encoder is at fault for, before it is given up

log = logging.getLogger(__name__)

EncodingOrError: TypeAlias = Encoding | PlumblineError


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch."""

    encodings: Sequence[EncodingOrError]
    """An encoding or an error for each input, in order."""
    is_broken: bool
    """Whether the encoder is at fault: nothing was encoded, nor an input that had been encoded before."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What came back for one call, and where the time went."""

    encodings: Sequence[EncodingOrError]
    """An encoding or an error for each input, in order."""
    queue_s: float
    """From the call to the start of its first batch."""
    compute_s: float
    """From the start of its first batch to the end of its last."""


class BatchRunner:
    """Runs batches, as many at a time as the encoder has streams; bound to one event loop.

    Args:
        encoder: Loaded.
        load_s: Seconds that loading took, with the first input that it ran.
        min_stuck_s: Seconds that any batch may take.
    """

    def __init__(self, encoder: Encoder, *, load_s: float, min_stuck_s: float) -> None:
        self.num_streams = encoder.info().num_streams
        self.pace = Pace(load_s)
        self._encoder = encoder
        self._halving = HalvingEncoder(encoder)
        self._min_stuck_s = max(min_stuck_s, load_s)  # an engine that is built anew takes what loading took
        self._threads = named_threads(self.num_streams, f"encode {encoder.kind}")
        self._numbers = itertools.count()
        self._stuck_at: dict[int, float] = {}
        """By number of the batch that is being computed."""
        self._ends_at: dict[int, float] = {}
        """When each is expected to be done, by the same number."""
        self._num_broken = 0

    @property
    def num_free(self) -> int:
        """Streams that compute nothing."""
        return self.num_streams - len(self._stuck_at)

    @property
    def is_alive(self) -> bool:
        """Whether the encoder does its work, and no batch has been computing for longer than is believable."""
        is_stuck = time.monotonic() >= min(self._stuck_at.values(), default=math.inf)
        return not is_stuck and self._num_broken < MAX_BROKEN

    @property
    def left_s(self) -> float:
        """Seconds until a stream is expected to be free; 0 where one is.

        A batch that has taken longer than was expected is taken to go on for as long again as it is late.
        """
        now = time.monotonic()
        return 0.0 if self.num_free else min(abs(ends_at - now) for ends_at in self._ends_at.values())

    async def run(
        self, take: Callable[[], Sequence[Preprocessed]], cost: float, turn: AbstractContextManager[Any]
    ) -> tuple[BatchResult, float]:
        """Encode inputs of one bucket on a free thread.

        Args:
            take: Gives them; called on the thread, when their turn has come.
            cost: What they cost at most.
            turn: In which they are computed.

        Returns:
            What became of them, and the seconds that it took.
        """
        number, started = next(self._numbers), time.monotonic()
        self._stuck_at[number] = started + max(self._min_stuck_s, STUCK_FACTOR * self.pace.slowest_s(cost))
        self._ends_at[number] = started + self.pace.line.seconds(cost, cost)
        loop = asyncio.get_running_loop()
        try:
            result, cost, started = await loop.run_in_executor(self._threads, self._in_turn, turn, take, self.work())
        finally:
            del self._stuck_at[number], self._ends_at[number]
        seconds = max(time.monotonic() - started, 1e-6)
        if result.encodings:
            self._num_broken = self._num_broken + 1 if result.is_broken else 0
            self.pace.learn(cost, seconds)
        return result, seconds

    def work(self) -> Callable[[Sequence[Preprocessed]], BatchResult]:
        """What a thread does for a batch."""
        return self._halving.encode_each

    def _in_turn(
        self,
        turn: AbstractContextManager[Any],
        take: Callable[[], Sequence[Preprocessed]],
        work: Callable[[Sequence[Preprocessed]], BatchResult],
    ) -> tuple[BatchResult, float, float]:
        """What became of a batch, what it cost, and when its turn came; runs on a thread."""
        with turn:
            started, inputs = time.monotonic(), take()
            result = work(inputs) if inputs else BatchResult([], is_broken=False)
            return result, sum(map(self._encoder.cost, inputs)), started

    def close(self) -> None:
        """Take no further batches; what is being computed goes on."""
        self._threads.shutdown(wait=False)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: PlumblineError
    kind: type[Exception]


class HalvingEncoder:
    """Encodes batches, halving those that fail; as many threads may call it as the encoder has streams."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._proven: tuple[Preprocessed] | None = None
        """The cheapest input that was encoded so far."""

    def encode_each(self, inputs: Sequence[Preprocessed]) -> BatchResult:
        """Encode inputs of one bucket; raises nothing."""
        encodings = self._split(inputs, self._run(inputs))
        self._remember(inputs, encodings)
        is_at_fault = all(isinstance(each, PlumblineError) and not isinstance(each, RequestError) for each in encodings)
        return BatchResult(encodings, is_broken=is_at_fault and not self._still_encodes())

    def _split(
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
        return [*self._split(halves[0], first), *self._split(halves[1], second)]

    def _run(self, inputs: Sequence[Preprocessed]) -> Sequence[EncodingOrError] | _Failure:
        key = self._encoder.key
        try:
            encodings = self._encoder.encode(inputs)
        except Exception as error:
            log.exception("encoder %s failed on a batch of %d", key, len(inputs))
            release(error)
            shown = EngineError("The encoder failed on this input.", encoder=key, cause=repr(error))
            return _Failure(error if isinstance(error, PlumblineError) else shown, type(error))
        if len(encodings) == len(inputs):
            return encodings
        lost = EngineError("The encoder lost a part of the batch.", got=len(encodings), sent=len(inputs))
        return _Failure(lost, EngineError)

    def _still_encodes(self) -> bool:
        """Whether the encoder encodes an input that it encoded before."""
        if self._proven is None:
            return False
        found = self._run(self._proven)
        return not isinstance(found, _Failure) and not isinstance(found[0], PlumblineError)

    def _remember(self, inputs: Sequence[Preprocessed], encodings: Sequence[EncodingOrError] | _Failure) -> None:
        if isinstance(encodings, _Failure):
            return
        pairs = zip(inputs, encodings, strict=True)
        encoded = [given for given, encoding in pairs if not isinstance(encoding, PlumblineError)]
        candidates = [*(self._proven or ()), *encoded]
        if candidates:
            self._proven = (min(candidates, key=self._encoder.cost),)
