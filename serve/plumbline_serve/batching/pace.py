"""How long batches take, learnt from those that were computed.

A batch takes a fixed time (launching, reading the weights) and a time for each unit of its cost. Waiting for one more
input saves the fixed time of the batch that it would else need, and costs the wait: so waiting pays for less than the
fixed time, and waiting exactly that long is never worse than twice the best that could have been done. Where batches
gain nothing, as with large towers on a CPU, nothing waits.

The fixed time also says how large a batch has to be. What comes while one is computed waits for all of it, so a batch
is no larger than it takes to do nearly as much a second as the largest would.
"""

import math
from dataclasses import dataclass

FORGET = 0.95  # what a batch weighs after each further one: the last twenty or so count
MIN_SPREAD = 0.05  # standard deviation of the costs over their mean: below, the two times cannot be told apart
KNOWN_FROM = 3  # batches; fewer tell nothing
MAX_SURPRISE = 3.0  # of the time that was expected: a batch that took longer (a new shape is compiled) counts as this
FORGET_SLOW = 0.5  # as FORGET, where a batch took less than a third: those before were the exceptions
GAIN = 0.03  # of what the largest batches do a second: so much is given for smaller ones
LEAST_SHARE = 1 / 8  # of the largest batch: no smaller one is chosen, whatever has been learnt
NUM_TRIED = 4  # sizes, each twice the one before, that are tried in turn while nothing is known
LOOK_EVERY = 20  # batches: one of so many may be twice as large, without which nothing is learnt of larger ones
RATE_OVER_S, RATE_OVER_BATCHES = 1.0, 2.0  # arrivals count for as long, whichever is longer


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of batches: some for each, some for each unit of cost."""

    fixed_s: float = 0.0
    per_cost_s: float = 0.0

    def good_batch(self, max_batch: float) -> float:
        """Cost of the smallest batch, in halves of the largest, that does nearly as much a second as that.

        Args:
            max_batch: Cost of the largest.
        """
        spare_s = GAIN * self.per_cost_s * max_batch
        share = (1.0 - GAIN) * self.fixed_s / (self.fixed_s + spare_s) if self.fixed_s else 0.0
        return max_batch * 2.0 ** round(math.log2(max(share, LEAST_SHARE)))

    def rate_over_s(self, max_batch: float) -> float:
        """How long arrivals count, for an encoder with such batches."""
        return max(RATE_OVER_S, RATE_OVER_BATCHES * self.seconds(max_batch, max_batch))

    def seconds(self, cost: float, max_batch: float) -> float:
        """What so much cost takes in full batches, one after the other.

        Args:
            cost: Of all inputs; 0: nothing.
            max_batch: Cost of one batch.
        """
        return self.fixed_s * math.ceil(cost / max_batch) + self.per_cost_s * cost


class ArrivalRate:
    """How much comes in a second, as of late."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._at_s = 0.0

    def count(self, cost: float, now_s: float, over_s: float) -> None:
        """So much has come.

        Args:
            cost: Of it.
            now_s: On a monotonic clock.
            over_s: How long it weighs: as far back as is looked ahead.
        """
        self._rate = self.at(now_s, over_s) + cost / over_s
        self._at_s = now_s

    def at(self, now_s: float, over_s: float) -> float:
        """Cost per second.

        Args:
            now_s: On a monotonic clock.
            over_s: As for `count`.
        """
        return self._rate * math.exp((self._at_s - now_s) / over_s)


class Pace:
    """How long batches take, learnt by least squares over the latest ones, the newest weighing most.

    Args:
        load_s: What loading took, with the first input that was run: no batch of cost 1 is expected to take longer.
    """

    def __init__(self, load_s: float = 0.0) -> None:
        self._slowest_s = load_s  # for a cost of 1
        self._num_batches = 0
        self._weight = 0.0
        self._cost = 0.0
        self._seconds = 0.0
        self._cost_squared = 0.0
        self._cost_seconds = 0.0
        self._fixed_s = math.inf
        self.line = Line()
        """What batches take; nothing until some have been computed."""

    def learn(self, cost: float, seconds: float) -> None:
        """Take a batch into account.

        Args:
            cost: Of all its inputs.
            seconds: What it took.
        """
        self._slowest_s = max(FORGET * self._slowest_s, seconds / cost)
        expected_s, forget = self.line.seconds(cost, cost), FORGET
        if expected_s > 0:
            forget = FORGET if MAX_SURPRISE * seconds >= expected_s else FORGET_SLOW
            seconds = min(seconds, MAX_SURPRISE * expected_s)
        self._num_batches += 1
        self._weight = forget * self._weight + 1.0
        self._cost = forget * self._cost + cost
        self._seconds = forget * self._seconds + seconds
        self._cost_squared = forget * self._cost_squared + cost * cost
        self._cost_seconds = forget * self._cost_seconds + cost * seconds
        self._fixed_s = self._fit()
        if self._num_batches >= KNOWN_FROM:
            self.line = self._fitted()

    def batch_cost(self, max_batch: float, *, looks: bool = False) -> float:
        """Cost that batches may have: that of a good one, once it is known which are.

        Args:
            max_batch: Cost of the largest.
            looks: Whether this is for the next batch, which now and then is larger.
        """
        if self._num_batches < KNOWN_FROM or math.isinf(self._fixed_s):
            return max_batch * LEAST_SHARE * 2.0 ** (self._num_batches % NUM_TRIED)
        times = 2.0 if looks and self._num_batches % LOOK_EVERY == 0 else 1.0
        return min(max_batch, times * self.line.good_batch(max_batch))

    def slowest_s(self, cost: float) -> float:
        """The most seconds that a batch of that cost would take at the speed of the slowest of the latest ones."""
        return self._slowest_s * max(1.0, cost)

    @property
    def fixed_s(self) -> float:
        """Seconds that every batch takes, whatever it holds; infinity until batches of different cost have told."""
        return self._fixed_s

    def _fitted(self) -> Line:
        mean_cost, mean_s = self._cost / self._weight, self._seconds / self._weight
        fixed_s = 0.0 if math.isinf(self._fixed_s) else min(self._fixed_s, mean_s)
        return Line(fixed_s, (mean_s - fixed_s) / mean_cost)

    def _fit(self) -> float:
        mean_cost, mean_s = self._cost / self._weight, self._seconds / self._weight
        variance = self._cost_squared / self._weight - mean_cost**2
        if variance <= (MIN_SPREAD * mean_cost) ** 2:
            return self._fixed_s
        per_cost_s = (self._cost_seconds / self._weight - mean_cost * mean_s) / variance
        return min(max(0.0, mean_s - per_cost_s * mean_cost), mean_s)
