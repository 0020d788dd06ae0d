"""How far estimates may be believed, learnt from what became of the requests that were let in by them."""

import bisect
import math
from collections import deque

SHARE_IN_TIME = 0.97
"""Of the requests that are let in: those that are to be done within the margin."""
NUM_COUNTED = 200
"""Requests that count: what is further back is forgotten at once, as a bad minute should be."""
GROWTH = 1.25
"""What a request counts as at the most, in margins: of one that was given up nobody knows how long it had taken."""
START, LEAST, MOST = 1.2, 1.05, 6.0
"""The answer has to be written and sent as well; and beyond the last, it is not the estimates that are at fault."""


class Margin:
    """What is foreseen is taken for so many times longer: the quantile of what it took in the end, over the estimate.

    A machine that does nothing else keeps to its estimates; where others take its cores now and then, or batches differ
    much, they are too short for some requests, and those would be computed for nobody.
    """

    def __init__(self) -> None:
        self.value = START
        self._latest = deque([START] * NUM_COUNTED)
        self._sorted = [START] * NUM_COUNTED

    def learn(self, foreseen_s: float, took_s: float) -> None:
        """Take a request into account.

        Args:
            foreseen_s: When it was let in.
            took_s: Until it was done; infinite: it was given up for its deadline.
        """
        if not foreseen_s:
            return  # nothing was known
        ratio = min(took_s / foreseen_s, GROWTH * self.value)
        del self._sorted[bisect.bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(ratio)
        bisect.insort(self._sorted, ratio)
        self.value = min(MOST, max(LEAST, self._sorted[math.ceil(SHARE_IN_TIME * NUM_COUNTED) - 1]))
