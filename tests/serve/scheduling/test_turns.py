"""A request begins once there is room in its line, and a few in each turn of the loop."""

import asyncio
import itertools
from collections import Counter

import pytest

from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import Caller, Priority, RequestContext
from plumbline_serve.scheduling.turns import AT_ONCE, FEW, Line, Turns
from tests.serve.batching.gates import settled

WIDE = Line("any", 10**6)


def context(priority: Priority = "normal", tenant: str = "") -> RequestContext:
    return RequestContext(Deadline.after_ms(None), Caller(tenant), priority)


class Watch:
    """Counts turns of the loop."""

    def __init__(self) -> None:
        self.num_turns = 0

    def go_on(self) -> None:
        self.num_turns += 1
        self.handle = asyncio.get_running_loop().call_soon(self.go_on)

    def stop(self) -> None:
        self.handle.cancel()


async def begun_in(turns: Turns, contexts: list[RequestContext]) -> list[int]:
    """The turns of the loop in which requests that come together begin."""
    watch, begun = Watch(), list[int]()
    watch.go_on()

    async def begin(each: RequestContext) -> None:
        await turns.begin(each, WIDE)
        begun.append(watch.num_turns)

    await asyncio.gather(*map(begin, contexts))
    watch.stop()
    return begun


async def test_a_few_begin_in_a_turn_until_enough_are_under_way_and_then_one() -> None:
    turns, first = Turns(), [context() for _ in range(FEW)]
    assert max(Counter(await begun_in(turns, first)).values()) == AT_ONCE
    more = await begun_in(turns, [context() for _ in range(20)])
    assert max(Counter(more).values()) == 1
    assert max(later - sooner for sooner, later in itertools.pairwise(sorted(more))) == 1  # no turn is wasted
    for each in first:
        turns.end(each)
    assert max(Counter(await begun_in(turns, [context() for _ in range(20)])).values()) == AT_ONCE


async def test_the_urgent_and_those_of_other_callers_need_not_wait_for_all_that_came_before() -> None:
    turns, order = Turns(), list[str]()

    async def begin(name: str, *of: str) -> None:
        await turns.begin(context(*of), WIDE)  # type: ignore[arg-type]  # a lane and a tenant
        order.append(name)

    many = [begin("many", "batch", "one") for _ in range(50)]
    await asyncio.gather(*many, begin("other", "batch", "two"), begin("urgent", "interactive", "one"))
    assert order.index("urgent") < 3 * AT_ONCE
    assert order.index("other") < 4 * AT_ONCE


async def test_who_has_left_is_passed_over() -> None:
    turns, begun = Turns(), list[int]()

    async def begin(number: int) -> None:
        each = context()
        try:
            await turns.begin(each, WIDE)
            begun.append(number)
        except asyncio.CancelledError:
            turns.end(each)
            raise

    tasks = [asyncio.create_task(begin(number)) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert begun == [0, 3]
    assert max(Counter(await begun_in(turns, [context() for _ in range(FEW - 2)])).values()) == AT_ONCE


async def test_a_request_begins_two_turns_after_it_came_however_many_come() -> None:
    turns, watch, waited = Turns(), Watch(), list[int]()
    watch.go_on()

    async def begin(after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        came = watch.num_turns
        await turns.begin(context(), WIDE)
        waited.append(watch.num_turns - came)

    await asyncio.gather(*(begin(after) for after in range(8) for _ in range(2)))
    watch.stop()
    assert min(waited) >= 2


class Requests:
    """Requests that begin, are under way until they are ended, and say in which order they began."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.begun: list[str] = []
        self._open: dict[str, tuple[RequestContext, asyncio.Task[None]]] = {}

    async def come(self, name: str, line: Line, of: RequestContext | None = None) -> None:
        """One more, that has begun if it may."""
        each = of or context()

        async def begin() -> None:
            await self.turns.begin(each, line)
            self.begun.append(name)

        self._open[name] = each, asyncio.create_task(begin())
        await settled()

    async def failure_of(self, name: str) -> BaseException | None:
        """Why it did not begin."""
        await asyncio.wait([self._open[name][1]], timeout=30)
        return self._open[name][1].exception()

    async def end(self, name: str) -> None:
        """It is done, or its caller leaves."""
        each, task = self._open.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.turns.end(each)
        await settled()


@pytest.fixture
def requests() -> Requests:
    return Requests()


async def test_no_more_of_a_line_are_under_way_than_it_has_room_for_and_they_begin_in_order(requests) -> None:
    line = Line("clip", 2)
    for name in "abcde":
        await requests.come(name, line)
    assert requests.begun == ["a", "b"]
    await requests.end("a")
    assert requests.begun == ["a", "b", "c"]
    await requests.end("d")  # its caller leaves while it waits
    await requests.end("b")
    assert requests.begun == ["a", "b", "c", "e"]


async def test_another_line_another_caller_and_another_lane_need_not_wait_for_a_full_one(requests) -> None:
    for name in "abc":
        await requests.come(name, Line("clip", 1), context("batch", "one"))
    await requests.come("small", Line("clip small", 1), context("batch", "one"))
    await requests.come("other", Line("clip", 1), context("batch", "two"))
    await requests.come("urgent", Line("clip", 1), context("interactive", "one"))
    assert requests.begun == ["a", "small", "other", "urgent"]


async def test_a_line_has_as_much_room_as_who_came_last_knows_of(requests) -> None:
    for name, room in (("a", 1), ("b", 1), ("c", 3), ("d", 3)):
        await requests.come(name, Line("clip", room))
    assert requests.begun == ["a", "b", "c"]
    await requests.come("e", Line("clip", 1))
    await requests.end("a")
    await requests.end("b")
    assert requests.begun == ["a", "b", "c"]
    await requests.end("c")
    assert requests.begun == ["a", "b", "c", "d"]


async def test_who_waits_in_a_line_until_it_is_too_late_is_told_and_leaves_it(requests) -> None:
    now = asyncio.get_running_loop().time()
    await requests.come("a", Line("clip", 1, latest_s=now))  # there is room: it begins, however late it is
    await requests.come("late", Line("clip", 1, latest_s=now + 0.05))
    await requests.come("b", Line("clip", 1, latest_s=now + 60.0))
    assert isinstance(await requests.failure_of("late"), TimeoutError)
    await requests.end("late")
    await requests.end("a")
    assert requests.begun == ["a", "b"]


async def test_nothing_is_kept_of_those_that_are_done_or_have_left(requests) -> None:
    for name in "abcd":
        await requests.come(name, Line(name < "c", 1))
    for name in "abdc":
        await requests.end(name)
    requests.turns.end(context())  # never came to begin
    assert not requests.turns._lines
    assert not requests.turns._line_of
    assert requests.turns._num_let_go == 0
    assert requests.turns._queue.num_units == 0
