"""CPU pools: fair turns, what is cancelled or late never starts, short work beside long; no clocks."""

import asyncio
import threading
import time
import weakref

import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_models.images.pieces import between_pieces
from plumbline_serve.scheduling.concurrency import Deadline, release
from plumbline_serve.scheduling.cpu_pools import SHORT_S, CpuPool, CpuPools
from plumbline_serve.scheduling.request_context import Caller, RequestContext
from plumbline_serve.scheduling.work import Pace, Work

PACE = 1e-6  # seconds per size
SHORT, LONG = 10, 10 * SHORT_S / PACE  # sizes


class Gate:
    """Units that stop until they are let, and say in which order they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self._opened: dict[str, threading.Event] = {}
        self._entered: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        with self._lock:
            self.began.append(name)
        self._event(self._entered, name).set()
        assert self._event(self._opened, name).wait(30)
        return name.upper()

    def open(self, *names: str) -> None:
        for name in names:
            self._event(self._opened, name).set()

    async def entered(self, name: str) -> None:
        assert await asyncio.to_thread(self._event(self._entered, name).wait, 30)

    def _event(self, events: dict[str, threading.Event], name: str) -> threading.Event:
        with self._lock:
            return events.setdefault(name, threading.Event())


class Pieces:
    """A unit that is long, and goes on for as long as somebody waits for it."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        try:
            while True:
                between_pieces()
                time.sleep(0.001)
        finally:
            self.ended.set()


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def open_pool():
    pools: list[CpuPool] = []

    def open_it(num_threads=1, **options):
        pools.append(CpuPool(num_threads, "decode", first_pace=PACE, **options))
        return pools[-1]

    yield open_it
    for pool in pools:
        pool.close()


def ask(pool, function, names, *, context=None, size=SHORT):
    """Ask for units, at once."""
    works = [Work("unit", size)] * len(names)
    return asyncio.create_task(pool.each(function, names, context=context or RequestContext(), works=works))


async def asked(pool, num_queued):
    """Until so many units wait."""
    while pool.num_queued != num_queued:  # noqa: ASYNC110 - asking is all that it takes
        await asyncio.sleep(0)


async def test_results_are_in_order_whatever_thread_they_come_from(open_pool):
    pool = open_pool(3)
    names = [f"{index}" for index in range(200)]
    assert await ask(pool, str.upper, names) == names
    assert await pool.run(lambda a, b: a + b, 1, 2, context=RequestContext(), work=Work("sum", 1)) == 3
    assert await ask(pool, str.upper, []) == []


async def test_a_small_request_is_next_behind_what_has_started(open_pool, gate):
    pool = open_pool()
    large = ask(pool, gate, [f"large{index}" for index in range(50)])
    await gate.entered("large0")
    small = ask(pool, gate, ["small"])
    await asked(pool, 50)
    gate.open("small", *(f"large{index}" for index in range(50)))
    assert await small == ["SMALL"]
    await large
    assert gate.began.index("small") == 1


async def test_tenants_take_turns_by_weight(open_pool, gate):
    pool = open_pool()
    first = ask(pool, gate, ["first"])
    await gate.entered("first")
    calls = [
        ask(pool, gate, [f"{name}{index}" for index in range(8)], context=RequestContext(caller=Caller(name, weight)))
        for name, weight in (("a", 1.0), ("b", 3.0))
    ]
    await asked(pool, 16)
    gate.open("first", *(f"{name}{index}" for name in "ab" for index in range(8)))
    await asyncio.gather(first, *calls)
    assert sorted(gate.began[1:9]) == ["a0", "a1", "b0", "b1", "b2", "b3", "b4", "b5"]


async def test_interactive_work_goes_before_a_backlog_of_batch_work(open_pool, gate):
    pool = open_pool()
    batch = ask(pool, gate, [f"batch{index}" for index in range(20)], context=RequestContext(priority="batch"))
    await gate.entered("batch0")
    urgent = ask(pool, gate, [f"urgent{index}" for index in range(10)], context=RequestContext(priority="interactive"))
    await asked(pool, 29)
    gate.open(*(f"{name}{index}" for name in ("batch", "urgent") for index in range(20)))
    await asyncio.gather(batch, urgent)
    assert sum(name.startswith("batch") for name in gate.began[:12]) == 2


async def test_what_is_cancelled_leaves_at_once_and_never_starts(open_pool, gate):
    pool = open_pool()
    under_way = ask(pool, gate, ["first"])
    await gate.entered("first")
    gone = ask(pool, gate, [f"gone{index}" for index in range(100)], context=(context := RequestContext()))
    await asked(pool, 100)
    assert pool.backlog_s(context, 0.0) > 0
    before = pool.backlog_s(RequestContext(), 1000.0)
    gone.cancel()
    await asyncio.wait([gone])
    assert pool.num_queued == 0
    assert pool.backlog_s(RequestContext(), 1000.0) < before
    after = ask(pool, gate, ["after"])
    gate.open("first", "after")
    assert [await under_way, await after] == [["FIRST"], ["AFTER"]]
    assert gate.began == ["first", "after"]


async def test_cancelling_one_call_of_a_request_leaves_its_others(open_pool, gate):
    pool, context = open_pool(), RequestContext()
    first = ask(pool, gate, ["first"], context=context)
    await gate.entered("first")
    gone, here = (ask(pool, gate, [name], context=context) for name in ("gone", "here"))
    await asked(pool, 2)
    gone.cancel()
    await asyncio.wait([gone])
    gate.open("first", "here")
    assert [await first, await here] == [["FIRST"], ["HERE"]]
    assert gate.began == ["first", "here"]


async def test_what_is_late_leaves_at_once_while_the_threads_are_busy(open_pool, gate):
    pool = open_pool()
    first = ask(pool, gate, ["first"])
    await gate.entered("first")
    late = ask(pool, gate, ["late"], context=RequestContext(Deadline.after_ms(20)))
    with pytest.raises(DeadlineExceededError) as error:
        await late
    assert error.value.facts == {"stage": "decode"}
    assert pool.num_queued == 0
    gate.open("first")
    await first
    assert gate.began == ["first"]


async def test_the_deadline_is_looked_at_before_each_unit(open_pool, gate):
    pool = open_pool(together_s=10.0)
    late = ask(pool, gate, ["a", "b"], context=(RequestContext(deadline := Deadline.after_ms(100))))
    await gate.entered("a")
    await asyncio.sleep(deadline.remaining_s or 0.0)
    gate.open("a", "b")
    with pytest.raises(DeadlineExceededError):
        await late
    await ask(pool, str.upper, ["behind it"])
    assert gate.began == ["a"]


async def test_short_work_runs_beside_long_work_that_holds_every_thread(open_pool, gate):
    pool = open_pool(2)
    long = ask(pool, gate, ["long0", "long1", "long2"], size=LONG)
    await gate.entered("long0")
    await gate.entered("long1")
    gate.open("short")
    assert await ask(pool, gate, ["short"]) == ["SHORT"]
    assert gate.began[2:] == ["short"]
    gate.open("long0", "long1", "long2")
    await long


async def test_no_more_units_run_at_a_time_than_there_are_threads(open_pool, gate):
    pool = open_pool(2)
    names = ["a", "b", "c"]
    call = ask(pool, gate, names)
    await gate.entered("a")
    await gate.entered("b")
    assert pool.num_queued == 1
    gate.open("a")
    await gate.entered("c")
    gate.open("b", "c")
    assert await call == ["A", "B", "C"]


async def test_an_error_is_the_caller_s_and_ends_the_rest(open_pool, gate):
    pool = open_pool()

    def fail(name):
        gate(name)
        raise ValueError(name)

    call = ask(pool, fail, ["a", "b"])
    await asked(pool, 1)
    gate.open("a")
    with pytest.raises(ValueError, match="a"):
        await call
    assert await ask(pool, str.upper, ["c"]) == ["C"]
    assert gate.began == ["a"]


async def test_the_backlog_is_what_must_be_done_before(open_pool, gate):
    pool = open_pool()
    context = RequestContext()
    assert pool.backlog_s(context, 1.0) == 0.0
    large = ask(pool, gate, [f"{index}" for index in range(11)], size=LONG)
    await gate.entered("0")
    unit_s = pool.cost_s(Work("unit", LONG))
    assert 2 * unit_s < pool.backlog_s(context, 2 * unit_s) <= 3 * unit_s
    assert 10 * unit_s < pool.backlog_s(context, 100 * unit_s) <= 11 * unit_s
    gate.open(*(f"{index}" for index in range(11)))
    await large


def thread_of(_):
    return threading.current_thread()


async def test_what_is_known_to_be_quick_is_done_where_it_is_asked_for(open_pool):
    pool, here = open_pool(here_s=0.001), threading.current_thread()
    assert await ask(pool, thread_of, ["of a new kind"]) != [here]
    for _ in range(300):  # the first starts the thread, which may take a while
        await ask(pool, str.upper, ["quick"])
    assert await ask(pool, thread_of, ["quick", "quick"]) == [here, here]
    assert await ask(pool, thread_of, ["long"], size=1000 * SHORT) != [here]
    with pytest.raises(DeadlineExceededError):
        await ask(pool, thread_of, ["late"], context=RequestContext(Deadline.after_ms(0)))


async def test_what_is_quick_has_its_turn_behind_what_was_there_before(open_pool, gate):
    pool = open_pool(here_s=0.001)
    for _ in range(300):
        await ask(pool, str.upper, ["quick"])
    first = ask(pool, gate, ["first"], size=1000 * SHORT)
    await gate.entered("first")
    quick = ask(pool, thread_of, ["quick"])
    await asked(pool, 1)
    gate.open("first")
    assert await quick != [threading.current_thread()]
    await first


async def test_the_pace_is_learnt_by_kind(open_pool):
    pool, clock = open_pool(), threading.Event()
    first = pool.cost_s(Work("slow", 1000.0))
    await pool.each(lambda _: clock.wait(0.02), range(3), context=RequestContext(), works=[Work("slow", 1000.0)] * 3)
    assert pool.cost_s(Work("slow", 2000.0)) >= 0.04 > 2 * first
    assert pool.cost_s(Work("other", 1000.0)) == first


async def test_what_is_wrong_with_an_input_says_nothing_of_the_pace(open_pool):
    pool = open_pool()
    before = pool.cost_s(Work("unit", 1000.0))
    works = [Work("unit", 1000.0)] * 50
    assert await pool.each(lambda _: ValueError(), range(50), context=RequestContext(), works=works)
    assert pool.cost_s(Work("unit", 1000.0)) == before


def test_one_unit_beyond_belief_makes_no_kind_look_slow():
    pace = Pace(PACE)
    pace.learn(Work("unit", 100.0), 3600.0)
    assert pace.seconds(Work("unit", 100.0)) == pytest.approx(25 * 100.0 * PACE)


class Kept:
    """Something to be let go."""


async def end_of(pool, function, given, deadline):
    """The kind of error that asking for two units ends with."""
    try:
        await pool.each(function, [given, given], context=RequestContext(deadline), works=[Work("unit", 1)] * 2)
    except (DeadlineExceededError, AttributeError) as error:
        release(error)
        return type(error)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("how", "kind"), [("done", type(None)), ("late", DeadlineExceededError), ("failed", AttributeError), ("gone", None)]
)
async def test_nothing_of_a_call_stays_in_memory(open_pool, gate, how, kind):
    pool, kept = open_pool(), Kept()
    found = weakref.ref(kept)

    def work(given):
        return gate("it") if how != "failed" else given.missing

    task = asyncio.create_task(end_of(pool, work, kept, Deadline.after_ms(30 if how == "late" else None)))
    del kept
    if how == "gone":
        await gate.entered("it")
        task.cancel()
    if how == "done":
        gate.open("it")
    await asyncio.wait([task])
    assert task.cancelled() if kind is None else (task.result() or type(None)) is kind
    gate.open("it")
    del task
    await pool.run(int, context=RequestContext(), work=Work("behind it", 1))
    await asyncio.sleep(0)
    assert found() is None


async def test_a_process_has_a_pool_for_each_kind_of_work():
    pools = CpuPools.of(2)
    try:
        assert [pool.num_threads for pool in (pools.decode, pools.tokenise, pools.score)] == [2, 1, 1]
    finally:
        pools.close()


@pytest.mark.parametrize("how", ["its caller has gone", "its deadline has passed"])
async def test_a_long_unit_ends_with_the_piece_in_which_nobody_waits_any_more(how: str) -> None:
    pool, pieces = CpuPool(1, "pieces", first_pace=PACE), Pieces()
    deadline = Deadline.after_ms(50) if how == "its deadline has passed" else Deadline()
    context = RequestContext(deadline)
    call = asyncio.ensure_future(pool.run(pieces, context=context, work=Work("long", LONG)))
    assert await asyncio.to_thread(pieces.began.wait, 30)
    if how == "its caller has gone":
        call.cancel()
    assert await asyncio.to_thread(pieces.ended.wait, 30)
    with pytest.raises((asyncio.CancelledError, DeadlineExceededError)):
        await call
    after = pool.run(str, context=RequestContext(), work=Work("short", SHORT))
    assert await asyncio.wait_for(after, 30) == ""
    pool.close()
