"""One encoder under load in simulated time: what is refused, what is served in time, and what is computed in vain.

Everything that decides is the service's own: admission, queue, shares, estimates. Only threads and clocks are left out.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline_models.core.errors import OverloadedError
from plumbline_serve.batching import EncoderLoad, Margin, check_wait
from plumbline_serve.batching.input_queue import Entry, InputQueue
from plumbline_serve.batching.pace import ArrivalRate, Pace
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import ANYONE, PRIORITIES, Caller, Priority, RequestContext

MAX_BATCH = 16.0
FIXED_S, EACH_S = 0.02, 0.01
CAPACITY = MAX_BATCH / (FIXED_S + MAX_BATCH * EACH_S)
"""Inputs per second in full batches."""
NOBODY: Any = None
"""In the place of the future that a caller would wait on."""


@dataclass(frozen=True)
class Arrival:
    """A request, and when it comes."""

    at_s: float
    num_inputs: int = 1
    timeout_s: float | None = None
    caller: Caller = ANYONE
    priority: Priority = "normal"


def poisson(rate: float, until_s: float, *, seed: int = 0, **named: Any) -> Iterator[Arrival]:
    """Arrivals of alike requests, at a rate of requests a second."""
    chance, at_s = random.Random(seed), 0.0  # noqa: S311 - arrivals, not secrets
    while (at_s := at_s + chance.expovariate(rate)) < until_s:
        yield Arrival(at_s, **named)


@dataclass(eq=False)
class Request:
    """One under way."""

    arrival: Arrival
    context: RequestContext
    num_left: int
    foreseen_s: float
    done_s: float | None = None
    is_dropped: bool = False

    @property
    def is_in_time(self) -> bool:
        return self.done_s is not None and self.done_s <= self.context.deadline.at_s


@dataclass
class Simulation:
    """An encoder whose batches take a fixed time and one for each input, more or less."""

    max_wait_s: float = 2.0
    admits_all: bool = False
    spread: float = 0.1
    max_batch: float = MAX_BATCH
    fixed_s: float = FIXED_S
    each_s: float = EACH_S
    is_adaptive: bool = True
    now: float = 0.0
    served: list[Request] = field(default_factory=list)
    refused: list[Arrival] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    num_computed: int = 0
    num_in_vain: int = 0
    batches: list[Counter[str]] = field(default_factory=list)
    _queue: InputQueue = field(default_factory=InputQueue)
    _pace: Pace = field(default_factory=Pace)
    _margins: dict[Priority, Margin] = field(default_factory=lambda: {lane: Margin() for lane in PRIORITIES})
    _rates: dict[Priority, ArrivalRate] = field(default_factory=lambda: {lane: ArrivalRate() for lane in PRIORITIES})
    _requests: dict[RequestContext, Request] = field(default_factory=dict)
    _ends_s: float = 0.0
    _batch: list[Entry] = field(default_factory=list)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - durations, not secrets

    def run(self, *arrivals: Iterator[Arrival] | Sequence[Arrival]) -> "Simulation":
        """Let requests come, and go on until all are done."""
        coming = heapq.merge(*arrivals, key=lambda each: each.at_s)
        arrival = next(coming, None)
        while arrival is not None or self._batch:
            if self._batch and (arrival is None or self._ends_s <= arrival.at_s):
                self.now = self._ends_s
                self._end()
            elif arrival is not None:
                self.now = arrival.at_s
                self._arrive(arrival)
                arrival = next(coming, None)
            if not self._batch:
                self._begin()
        return self

    def goodput(self, seconds: float) -> float:
        """Inputs of requests served in time, over what the encoder can do."""
        served = sum(each.arrival.num_inputs for each in self.served if each.is_in_time)
        return served / seconds / self.capacity

    @property
    def capacity(self) -> float:
        """Inputs per second in the largest batches."""
        return self.max_batch / (self.fixed_s + self.max_batch * self.each_s)

    def load(self) -> EncoderLoad:
        left_s = abs(self._expected_s - self.now) if self._batch else 0.0
        return EncoderLoad(
            line=self._pace.line,
            max_batch=self._batch_cost(),
            num_streams=1,
            left_s=left_s,
            input_cost=1.0,
            arrival_rates={lane: rate.at(self.now, self._over_s) for lane, rate in self._rates.items()},
            backlog=self._queue.backlog,
        )

    @property
    def _over_s(self) -> float:
        return self._pace.line.rate_over_s(self.max_batch)

    def _batch_cost(self, *, looks: bool = False) -> float:
        return self._pace.batch_cost(self.max_batch, looks=looks) if self.is_adaptive else self.max_batch

    def _arrive(self, arrival: Arrival) -> None:
        deadline = Deadline() if arrival.timeout_s is None else Deadline(self.now + arrival.timeout_s)
        context = RequestContext(deadline, arrival.caller, arrival.priority)
        forecast = self.load().forecast(context, arrival.num_inputs)
        try:
            if not self.admits_all:
                check_wait(
                    context,
                    self.now,
                    done_s=forecast.done_s,
                    wait_s=forecast.done_s - forecast.own_s,
                    margin=self._margins[arrival.priority].value,
                    max_wait_s=self.max_wait_s,
                )
        except OverloadedError:
            self.refused.append(arrival)
            return
        self._rates[arrival.priority].count(arrival.num_inputs, self.now, self._over_s)
        self._requests[context] = Request(arrival, context, arrival.num_inputs, forecast.done_s)
        for _ in range(arrival.num_inputs):
            self._queue.push(Entry(None, 1.0, 0, context, NOBODY, self.now), arrival.num_inputs)

    def _begin(self) -> None:
        load = self.load()
        if not self.admits_all:
            late = self._queue.late(lambda request, cost: load.is_late(request, cost, self.now))
            entries = [entry for request in late for entry in request.entries]
            for entry in entries if len(entries) < self._queue.num_items else ():
                self._drop(entry)
        self._batch = self._queue.fill(
            self._batch_cost(looks=True),
            10**9,
            is_wanted=self._is_wanted,
            fits=lambda cost, at_s: load.fits(cost, at_s, self.now),
        )
        if self._batch:
            cost = float(len(self._batch))
            expected_s = self.fixed_s + cost * self.each_s
            self._ends_s = self.now + expected_s * self._chance.uniform(1 - self.spread, 1 + self.spread)
            self._expected_s = self.now + self._pace.line.seconds(cost, cost)
            self._started_s = self.now

    def _end(self) -> None:
        self._pace.learn(float(len(self._batch)), self.now - self._started_s)
        self.num_computed += len(self._batch)
        self.batches.append(Counter(entry.context.caller.tenant for entry in self._batch))
        for entry in self._batch:
            request = self._requests[entry.context]
            self.num_in_vain += request.is_dropped or self.now > entry.context.deadline.at_s
            request.num_left -= 1
            if not request.num_left:
                request.done_s = self.now
                (self.served if request.is_in_time else self.late).append(request)
                self._margins[request.arrival.priority].learn(request.foreseen_s, self.now - request.arrival.at_s)
        self._batch = []

    def _is_wanted(self, entry: Entry) -> bool:
        if self.now < entry.context.deadline.at_s and not self._requests[entry.context].is_dropped:
            return True
        self._note_late(entry)
        return False

    def _drop(self, entry: Entry) -> None:
        self._queue.discard(entry)
        self._note_late(entry)

    def _note_late(self, entry: Entry) -> None:
        request = self._requests[entry.context]
        if not request.is_dropped:
            request.is_dropped = True
            self._margins[request.arrival.priority].learn(request.foreseen_s, math.inf)
            self.late.append(request)
