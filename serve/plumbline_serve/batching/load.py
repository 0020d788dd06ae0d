"""How busy an encoder is, and when further work would be done."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from plumbline_models.core.errors import OverloadedError
from plumbline_serve.batching.backlog import Backlog
from plumbline_serve.batching.cores import SHORT_S
from plumbline_serve.batching.input_queue import QueuedRequest
from plumbline_serve.batching.margin import START
from plumbline_serve.batching.pace import Line
from plumbline_serve.scheduling.request_context import Priority, RequestContext

RETRY_AFTER_S = 1.0
"""Where nothing is known yet of what batches take."""
TOO_LATE = "The answer would come too late; try again later."
LATE_BY = 1.25
"""What waits is given up where even a wait so many times shorter than foreseen would be too long."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """When work would be done, in seconds from now."""

    own_s: float
    """What it takes by itself."""
    done_s: float
    """When it is done, if all its inputs were there now; no less than `own_s`."""


@dataclass(slots=True)
class EncoderLoad:
    """One encoder at one moment; it may cross processes."""

    line: Line
    """What batches take, as learnt: nothing, until some have been computed."""
    max_batch: float
    """Cost of one, as large as they are now (`Pace.batch_cost`)."""
    num_streams: int
    left_s: float
    """Until a stream is free."""
    input_cost: float
    """Of an input, on average."""
    arrival_rates: Mapping[Priority, float]
    """Cost per second of what came of late, by lane; none of lanes in which nothing ever came."""
    backlog: Backlog
    turn_s: float = 0.0
    """What each long batch waits until the cores are its own."""

    def forecast(self, context: RequestContext, num_inputs: int) -> Forecast:
        """When inputs of a request would be done that comes now.

        Args:
            context: The request's.
            num_inputs: At least one.
        """
        own_s = self.own_s(context, num_inputs)
        if not self.left_s and not self.backlog.cost and not self.turn_s:
            return Forecast(own_s, own_s)
        cost = num_inputs * self.charge(context, self.input_cost)
        total = self.backlog.until(context, cost, is_new=True, coming=self._coming)
        return Forecast(own_s, max(own_s, sum(self._steps_s(total))))

    def charge(self, context: RequestContext, cost: float) -> float:
        """What an input counts as in the queue: its cost, or that of the batch which its time alone would do.

        Args:
            context: Of its request.
            cost: Its own.
        """
        if not context.is_deterministic or not (full_s := self.line.seconds(self.max_batch, self.max_batch)):
            return cost
        return max(cost, self.line.seconds(cost, cost) * self.max_batch / full_s)

    def own_s(self, context: RequestContext, num_inputs: float) -> float:
        """Seconds that inputs of usual cost take by themselves, on all streams.

        Args:
            context: Of their request, which says whether they share batches.
            num_inputs: Above 0.
        """
        if context.is_deterministic:
            one_s = self.line.seconds(self.input_cost, self.input_cost)
            return max(one_s, one_s * num_inputs / self.num_streams)
        cost = num_inputs * self.input_cost
        one_s = self.line.seconds(min(cost, self.max_batch), self.max_batch)
        if cost <= self.max_batch:
            return one_s
        return max(one_s, self.line.seconds(cost, self.max_batch) / self.num_streams)

    @property
    def drain_s(self) -> float:
        """Until all that waits now is done."""
        return sum(self._steps_s(self.backlog.cost))

    def is_late(self, request: QueuedRequest, cost: float, now_s: float) -> bool:
        """Whether what waits of a request would not be done by its deadline, as far as that can be told.

        Args:
            request: It.
            cost: What its tenant has in its lane until then.
            now_s: On the clock of deadlines.
        """
        at_s = request.context.deadline.at_s
        if math.isinf(at_s):
            return False
        total = self.backlog.until(request.context, cost, coming=self._coming)
        wait_s, last_s = self._steps_s(total)
        return now_s + wait_s / LATE_BY + last_s > at_s

    def fits(self, cost: float, at_s: float, now_s: float) -> bool:
        """Whether a batch that begins now would be done by a deadline.

        Args:
            cost: Of the batch.
            at_s: The deadline.
            now_s: On the clock of deadlines.
        """
        return now_s + self.line.seconds(cost, cost) <= at_s

    def _steps_s(self, total: float) -> tuple[float, float]:
        """Seconds until the batch begins with which so much is done, and those that it takes.

        It ends as a whole, and what comes until it begins fills it further.
        """
        num_before = max(0, math.ceil(total / self.max_batch) - 1)
        before_s = num_before * (self._turn_s(self.max_batch) + self.line.seconds(self.max_batch, self.max_batch))
        wait_s = self.left_s + before_s / self.num_streams
        last = total - num_before * self.max_batch
        last = min(self.max_batch, last + sum(self.arrival_rates.values()) * wait_s)
        return wait_s + self._turn_s(last), self.line.seconds(last, self.max_batch)

    def _turn_s(self, cost: float) -> float:
        """What a batch waits until the cores are its own."""
        return self.turn_s if self.turn_s and self.line.seconds(cost, self.max_batch) > SHORT_S else 0.0

    @property
    def _coming(self) -> Mapping[Priority, float]:
        """What comes of late, by lane, as a part of what the encoder can do."""
        full_s = self.line.seconds(self.max_batch, self.max_batch) / self.num_streams
        return {lane: rate * full_s / self.max_batch for lane, rate in self.arrival_rates.items()}


def comes_late(context: RequestContext, now_s: float, *, done_s: float, margin: float) -> bool:
    """Whether a request would be done after its deadline.

    Args:
        context: The request's.
        now_s: On the clock of deadlines.
        done_s: Seconds until it would be done.
        margin: How many times longer it may take in the end.
    """
    return now_s + margin * done_s > context.deadline.at_s


def check_wait(
    context: RequestContext,
    now_s: float,
    *,
    done_s: float,
    wait_s: float,
    margin: float = START,
    max_wait_s: float = math.inf,
) -> None:
    """Refuse what would be done too late, but for what has nothing to wait for.

    Args:
        context: The request's.
        now_s: On the clock of deadlines.
        done_s: Seconds until it would be done.
        wait_s: What of this it would wait for others.
        margin: How many times longer it may take in the end.
        max_wait_s: How long it may wait if it has no deadline.

    Raises:
        OverloadedError: It would be done after its deadline, or would wait too long.
    """
    if wait_s <= 0.0:
        return
    if math.isfinite(context.deadline.at_s):
        if comes_late(context, now_s, done_s=done_s, margin=margin):
            raise overloaded(TOO_LATE, "deadline", done_s, wait_s)
    elif wait_s > max_wait_s:
        raise overloaded("The request would have to wait too long; try again later.", "wait", done_s, wait_s)


def late(wait_s: float) -> OverloadedError:
    """The refusal of work that was taken and by now would be done too late.

    Args:
        wait_s: When it is time to try again.
    """
    return overloaded(TOO_LATE, "late", wait_s, wait_s)


def overloaded(sentence: str, reason: str, done_s: float, wait_s: float) -> OverloadedError:
    """The refusal of work that an encoder has no time for.

    Args:
        sentence: For the caller.
        reason: For programs: `deadline`, `wait`, `full` or `late`.
        done_s: Seconds until the work would have been done.
        wait_s: Until what is ahead of it is done: when it is time to try again.
    """
    return OverloadedError(
        sentence,
        reason=reason,
        estimated_wait_ms=math.ceil(done_s * 1000),
        retry_after_s=wait_s or RETRY_AFTER_S,
    )
