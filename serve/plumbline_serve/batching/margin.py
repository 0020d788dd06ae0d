"""How far estimates may be believed, learnt from what became of the requests that were let in by them."""

SHARE_IN_TIME = 0.97
"""Of the requests that are let in: those that are to be done within the margin."""
STEP = 0.03
"""How far one request moves the margin."""
START, LEAST, MOST = 1.2, 1.05, 6.0
"""The answer has to be written and sent as well; and beyond the last, it is not the estimates that are at fault."""


class Margin:
    """What is foreseen is taken for so many times longer: the quantile of what it took in the end, over the estimate.

    A machine that does nothing else keeps to its estimates; where others take its cores now and then, or batches differ
    much, they are too short for some requests, and those would be computed for nobody.
    """

    def __init__(self) -> None:
        self.value = START

    def learn(self, foreseen_s: float, took_s: float) -> None:
        """Take a request into account: each that was late raises the margin as much as many in time lower it.

        Args:
            foreseen_s: When it was let in.
            took_s: Until it was done, or was given up for its deadline.
        """
        if not foreseen_s:
            return  # nothing was known
        is_late = took_s > self.value * foreseen_s
        self.value += STEP * (SHARE_IN_TIME if is_late else SHARE_IN_TIME - 1.0)
        self.value = min(MOST, max(LEAST, self.value))
