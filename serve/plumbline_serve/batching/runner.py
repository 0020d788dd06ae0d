"""Runs an encoder's batches on threads: inputs that fail alone, how long batches take, and when one is stuck.

A batch that fails is halved until the culprit stands alone, so that no input takes its neighbours with it. Where both
halves fail alike, an input that was encoded before is tried again: if it fails too, the encoder is at fault and not
its inputs, and halving further would only repeat the failure. Before any input was encoded, two halves that fail alike
are taken for that.

A batch takes a fixed time (launching, reading the weights) and a time for each unit of its cost. Waiting for one more
input saves the fixed time of the batch that it would else need, and costs the wait: so waiting pays for less than the
fixed time, and waiting exactly that long is never worse than twice the best that could have been done. Where batches
gain nothing, as with large towers on a CPU, nothing waits.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from plumbline_models.core.errors import EngineError, PlumblineError, RequestError
from plumbline_models.core.protocols import Encoder, Encoding, Preprocessed
from plumbline_serve.concurrency import named_threads, release

FORGET = 0.95  # what a batch weighs after each further one: the last twenty or so count
MIN_SPREAD = 0.05  # standard deviation of the costs over their mean: below, the two times cannot be told apart
STUCK_FACTOR = 5.0  # of what a batch would take at the pace of the slowest of late: longer is not believable
MAX_BROKEN = 3  # batches in a row that the encoder is at fault for, before it is given up
DRAIN_RATE_WEIGHT = 0.2  # of the newest batch in the moving average that Retry-After comes from

log = logging.getLogger(__name__)

EncodingOrError: TypeAlias = Encoding | PlumblineError


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch."""

    encodings: Sequence[EncodingOrError]
    """An encoding or an error for each input, in order."""
    is_broken: bool
    """Whether the encoder is at fault: nothing was encoded, nor an input that had been encoded before."""


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
        self._halving = HalvingEncoder(encoder)
        self._min_stuck_s = max(min_stuck_s, load_s)  # an engine that is built anew takes what loading took
        self._threads = named_threads(self.num_streams, f"encode {encoder.kind}")
        self._numbers = itertools.count()
        self._stuck_at: dict[int, float] = {}
        """By number of the batch that is being computed."""
        self._num_broken = 0
        self._rate_per_s = 0.0

    @property
    def num_free(self) -> int:
        """Streams that compute nothing."""
        return self.num_streams - len(self._stuck_at)

    @property
    def is_alive(self) -> bool:
        """Whether the encoder does its work, and no batch has been computing for longer than is believable."""
        is_stuck = time.monotonic() >= min(self._stuck_at.values(), default=math.inf)
        return not is_stuck and self._num_broken < MAX_BROKEN

    def drain_s(self, num_inputs: int) -> float:
        """Seconds until so many inputs are encoded, by the rate of the last batches."""
        return num_inputs / (self._rate_per_s * self.num_streams) if self._rate_per_s else 1.0

    async def run(self, inputs: Sequence[Preprocessed], cost: float) -> tuple[BatchResult, float]:
        """Encode inputs of one bucket on a free thread.

        Args:
            inputs: At least one.
            cost: Of all of them.

        Returns:
            What became of them, and the seconds that it took.
        """
        number, started = next(self._numbers), time.monotonic()
        self._stuck_at[number] = started + max(self._min_stuck_s, STUCK_FACTOR * self.pace.slowest_s(cost))
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._threads, self._halving.encode_each, inputs)
        finally:
            del self._stuck_at[number]
        seconds = max(time.monotonic() - started, 1e-6)
        self._num_broken = self._num_broken + 1 if result.is_broken else 0
        self.pace.learn(cost, seconds)
        newest = len(inputs) / seconds
        self._rate_per_s += (DRAIN_RATE_WEIGHT if self._rate_per_s else 1.0) * (newest - self._rate_per_s)
        return result, seconds

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


class Pace:
    """How long batches take, learnt by least squares over the latest ones, the newest weighing most.

    Args:
        load_s: What loading took, with the first input that was run: no batch of cost 1 is expected to take longer.
    """

    def __init__(self, load_s: float = 0.0) -> None:
        self._slowest_s = load_s  # for a cost of 1
        self._weight = 0.0
        self._cost = 0.0
        self._seconds = 0.0
        self._cost_squared = 0.0
        self._cost_seconds = 0.0

    def learn(self, cost: float, seconds: float) -> None:
        """Take a batch into account.

        Args:
            cost: Of all its inputs.
            seconds: What it took.
        """
        self._weight = FORGET * self._weight + 1.0
        self._cost = FORGET * self._cost + cost
        self._seconds = FORGET * self._seconds + seconds
        self._cost_squared = FORGET * self._cost_squared + cost * cost
        self._cost_seconds = FORGET * self._cost_seconds + cost * seconds
        self._slowest_s = max(FORGET * self._slowest_s, seconds / cost)

    def slowest_s(self, cost: float) -> float:
        """The most seconds that a batch of that cost would take at the speed of the slowest of the latest ones."""
        return self._slowest_s * max(1.0, cost)

    @property
    def fixed_s(self) -> float:
        """Seconds that every batch takes, whatever it holds; infinity until batches of different cost have told."""
        if not self._weight:
            return math.inf
        mean_cost, mean_s = self._cost / self._weight, self._seconds / self._weight
        variance = self._cost_squared / self._weight - mean_cost**2
        if variance <= (MIN_SPREAD * mean_cost) ** 2:
            return math.inf
        per_cost_s = (self._cost_seconds / self._weight - mean_cost * mean_s) / variance
        return min(max(0.0, mean_s - per_cost_s * mean_cost), mean_s)
