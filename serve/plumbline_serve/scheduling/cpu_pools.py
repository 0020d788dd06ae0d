"""CPU pools: the threads on which images are decoded and texts tokenised, shared fairly by all requests of a process.

Work comes in units: one image for one encoder, one text, a few scores. Before it starts, a unit waits in a fair queue
by its cost, which is the seconds that units like it took. When it starts, its request must still be waited for: what
was cancelled or has expired leaves the queue, and every count, at once.

A unit that has started runs to its end, or, where it is long and cut into pieces (`images.pieces`), to that of the
piece in which its request ended. So that a small image need not wait for two large ones, one short unit may run beside
as many long ones as there are threads.

Short texts and scores are done where they are asked for while their pool has nothing else to do: to hand one to a
thread and back takes 65 microseconds of CPU time, and tokenising it 8.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from plumbline_models.images.pieces import ended_by
from plumbline_serve.scheduling.concurrency import named_threads
from plumbline_serve.scheduling.fair_queue import FairQueue
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.scheduling.work import Pace, Work

SHORT_S: Final = 0.02
"""A unit that is expected to take no more may run beside long ones."""
TEXTS_TOGETHER_S: Final = 0.0005
"""Texts of one request are taken together until they are expected to take so long: a text takes microseconds."""
HERE_S: Final = 0.0001
"""Texts and scores that are expected to take no more CPU time are done on the event loop, which they do not hold up."""

R = TypeVar("R")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Call:
    """Units that one caller waits for together."""

    context: RequestContext
    future: "asyncio.Future[list[Any]]"
    num_left: int
    task: tuple[Callable[[Any], Any], Sequence[Any], list[Any]] | None
    """What to call, with what, and where the results go; None once nobody waits any more."""


class _Unit(NamedTuple):
    call: _Call
    place: int
    work: Work


@dataclass(slots=True, eq=False)
class _Piece:
    """Units that a thread runs one after the other."""

    units: Sequence[tuple[float, _Unit]]
    """Each with the seconds that it is expected to take."""
    cost_s: float
    started_s: float = field(default_factory=time.perf_counter)


class CpuPool:
    """Threads that requests share unit by unit; for any number of event loops.

    Args:
        num_threads: Units that run at a time, at least 1.
        name: Of the threads, and of the stage in which a deadline passes here.
        first_pace: Seconds per size of a kind of which no unit has run yet.
        together_s: Units of one request are taken together until they are expected to take so long.
        here_s: Calls that are expected to take no more CPU time are done by who asks, while nothing else is to be done.
    """

    def __init__(
        self, num_threads: int, name: str, *, first_pace: float, together_s: float = 0.0, here_s: float = 0.0
    ) -> None:
        self.num_threads = num_threads
        self._name = name
        self._together_s, self._here_s = together_s, here_s
        self._threads = named_threads(num_threads + 1, name)
        self._pace = Pace(first_pace)
        self._cpu_pace = Pace(math.inf)  # of what is new: it may have to read a vocabulary first
        self._lock = threading.Lock()
        self._queue: FairQueue[_Unit] = FairQueue()
        self._running: set[_Piece] = set()

    @property
    def num_queued(self) -> int:
        """Units that wait."""
        return self._queue.num_units

    def cost_s(self, work: Work) -> float:
        """Seconds that a unit is expected to take."""
        return self._pace.seconds(work)

    def backlog_s(self, context: RequestContext, own_s: float) -> float:
        """Seconds until some more work of a request would be done, apart from the time that it takes by itself.

        Args:
            context: Of the request.
            own_s: What the work is expected to take, all together: the sum of `cost_s`.
        """
        now = time.perf_counter()
        with self._lock:
            if len(self._running) < self.num_threads:
                return 0.0
            under_way = math.fsum(max(0.0, piece.cost_s - (now - piece.started_s)) for piece in self._running)
            return (under_way + self._queue.cost_ahead(context, own_s)) / self.num_threads

    async def run(self, function: Callable[..., R], *args: Any, context: RequestContext, work: Work) -> R:
        """Call a function on a thread, as one unit.

        Args:
            function: What to call.
            *args: With what.
            context: Of the request.
            work: What it asks for.

        Raises:
            DeadlineExceededError: The deadline passed before it was done.
        """
        (result,) = await self.each(lambda given: function(*given), [args], context=context, works=[work])
        return result

    async def each(
        self, function: Callable[[T], R], inputs: Sequence[T], *, context: RequestContext, works: Sequence[Work]
    ) -> list[R]:
        """Call a function with each input, each call a unit.

        Args:
            function: What to call; the first error that it raises is raised here, and ends the others.
            inputs: In order, as the results are.
            context: Of the request.
            works: What each asks for.

        Raises:
            DeadlineExceededError: The deadline passed before all were done.
        """
        if not inputs:
            return []
        if self._is_quick(works) and not context.deadline.has_passed:
            return [self._timed(function, given, work) for given, work in zip(inputs, works, strict=True)]
        loop, at_s = asyncio.get_running_loop(), context.deadline.at_s
        call = _Call(context, loop.create_future(), len(inputs), (function, inputs, [None] * len(inputs)))
        timer = loop.call_at(at_s, self._expire, call) if math.isfinite(at_s) else None
        self._push(call, works)
        try:
            return await call.future
        finally:
            if timer is not None:
                timer.cancel()
            self._drop(call)
            del call, timer  # an error holds this frame, and the future the error

    def close(self) -> None:
        """End the threads, once what runs is done; nobody may wait."""
        self._threads.shutdown()

    def _is_quick(self, works: Sequence[Work]) -> bool:
        """Whether a call would begin at once, and takes less time than to hand it over."""
        if not self._here_s or self._running or self._queue.num_units:
            return False
        return sum(map(self._cpu_pace.seconds, works)) <= self._here_s

    def _timed(self, function: Callable[[T], R], given: T, work: Work) -> R:
        """Call, and learn what such calls take; what is wrong with one input says nothing of others."""
        started, cpu_started = time.perf_counter(), time.thread_time()
        result = function(given)
        if not isinstance(result, Exception):
            self._pace.learn(work, time.perf_counter() - started)
            self._cpu_pace.learn(work, time.thread_time() - cpu_started)
        return result

    def _push(self, call: _Call, works: Sequence[Work]) -> None:
        pieces: list[_Piece] = []
        with self._lock:
            units = [(self._pace.seconds(work), _Unit(call, place, work)) for place, work in enumerate(works)]
            if len(units) == 1 and not self._queue.num_units and len(self._running) < self.num_threads:
                pieces.append(self._begin(units))
            else:
                self._queue.push(call.context, units)
            while (piece := self._take()) is not None:
                pieces.append(piece)
        for piece in pieces:
            self._threads.submit(self._work, piece)

    def _take(self) -> _Piece | None:
        """What may start now; the lock is held."""
        num_running, units = len(self._running), []
        if num_running < self.num_threads:
            units = self._queue.pop(until_cost=self._together_s)
        elif num_running == self.num_threads and all(piece.cost_s > SHORT_S for piece in self._running):
            units = self._queue.pop(until_cost=self._together_s, most_cost=SHORT_S)
        return self._begin(units) if units else None

    def _begin(self, units: Sequence[tuple[float, _Unit]]) -> _Piece:
        piece = _Piece(units, math.fsum(cost_s for cost_s, _ in units))
        self._running.add(piece)
        return piece

    def _work(self, piece: _Piece | None) -> None:
        """Run what is next until nothing is; on a thread."""
        while piece is not None:
            piece = self._after(piece, self._run_all(piece))

    def _run_all(self, piece: _Piece) -> list[_Unit]:
        """Run units, until the last or for as long as units may be run together; those that were done."""
        done: list[_Unit] = []
        last = piece.started_s = time.perf_counter()
        for place, (_, unit) in enumerate(piece.units):
            if place and last - piece.started_s > self._together_s:
                with self._lock:
                    self._queue.push(unit.call.context, piece.units[place:], is_first=True)
                break
            if self._run(unit):
                done.append(unit)
            last = time.perf_counter()
        piece.units = ()  # the thread holds the piece that it began with for as long as there is more
        return done

    def _run(self, unit: _Unit) -> bool:
        """Whether the unit was still wanted, and now is done."""
        call, task = unit.call, unit.call.task
        if task is None:
            return False
        if call.context.deadline.has_passed:
            call.task = None
            _tell(call.future, self._expire, call)
            return False
        function, inputs, results = task
        try:
            with ended_by(partial(self._check, call)):
                results[unit.place] = self._timed(function, inputs[unit.place], unit.work)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            # Without this frame, which holds the call, and so the future, and so the error.
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            call.task = None
            _tell(call.future, self._fail, call, error)
            return False
        return True

    def _check(self, call: _Call) -> None:
        """See, between two pieces of a unit, that somebody waits for it."""
        if call.task is None or call.context.deadline.has_passed:
            raise call.context.deadline.error(self._name)

    def _after(self, piece: _Piece, done: Sequence[_Unit]) -> _Piece | None:
        """Count what was done, tell who waits for it, and take what is next."""
        finished: list[_Call] = []
        with self._lock:
            self._running.remove(piece)
            for unit in done:
                unit.call.num_left -= 1
                if not unit.call.num_left:
                    finished.append(unit.call)
            after = self._take()
        for call in finished:
            _tell(call.future, _finish, call)
        return after

    def _expire(self, call: _Call) -> None:
        self._fail(call, call.context.deadline.error(self._name))

    def _fail(self, call: _Call, error: BaseException) -> None:
        """On the caller's loop."""
        self._drop(call)
        if not call.future.done():
            call.future.set_exception(error)

    def _drop(self, call: _Call) -> None:
        """Let go of what has not started; what is under way ends for nobody."""
        call.task = None
        with self._lock:
            if call.num_left:
                self._queue.drop(call.context, lambda unit: unit.call is call)


def _finish(call: _Call) -> None:
    """On the caller's loop."""
    if call.task is not None and not call.future.done():
        call.future.set_result(call.task[2])


def _tell(future: "asyncio.Future[Any]", callback: Callable[..., None], *args: Any) -> None:
    """Have the loop of a caller call back; nothing happens where it has ended."""
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(callback, *args)


@dataclass(frozen=True, slots=True)
class CpuPools:
    """The pools of one process, by what is done there: only what is quick ever is on an event loop."""

    decode: CpuPool
    """Images are opened, decoded and preprocessed."""
    tokenise: CpuPool
    """Texts, which must not stand behind images."""
    score: CpuPool
    """Scores are worked out, which must not stand behind other requests' texts."""
    sets: CpuPool
    """Values of whole sets are worked out, one set at a time: the largest take seconds, and memory."""

    @classmethod
    def of(cls, num_decoders: int) -> "CpuPools":
        """Pools with so many threads for images, and one for each of the others: Python runs one at a time anyway."""
        return cls(
            CpuPool(num_decoders, "decode", first_pace=2e-8),
            CpuPool(1, "tokenise", first_pace=3e-6, together_s=TEXTS_TOGETHER_S, here_s=HERE_S),
            CpuPool(1, "score", first_pace=3e-6, here_s=HERE_S),
            CpuPool(1, "sets", first_pace=5e-8),
        )

    def close(self) -> None:
        """End all threads, once what runs is done."""
        for pool in (self.decode, self.tokenise, self.score, self.sets):
            pool.close()
