"""How long an encoder's batches take, learnt from those that it has computed.

A batch takes a fixed time (launching, reading the weights) and a time for each unit of its cost. Waiting for one more
input saves the fixed time of the batch that it would else need, and costs the wait: so waiting pays for less than the
fixed time, and waiting exactly that long is never worse than twice the best that could have been done. Where batches
gain nothing, as with large towers on a CPU, nothing waits.

The slowest batch by cost says when one that is computing is believed to be stuck.
"""

import math

FORGET = 0.95  # what a batch weighs after each further one: the last twenty or so count
MIN_SPREAD = 0.05  # standard deviation of the costs over their mean: below, the two times cannot be told apart


class Pace:
    """Least squares over the latest batches, the newest weighing most.

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
        """A batch of that cost took that long."""
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
