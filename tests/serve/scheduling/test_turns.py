"""A few requests begin in each turn of the loop, and what else there is to do gets its turn between."""

import asyncio
import itertools
from collections import Counter

from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import Caller, Priority, RequestContext
from plumbline_serve.scheduling.turns import AT_ONCE, FEW, Turns


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


async def begun_in(turns: Turns, num_requests: int) -> list[int]:
    """The turns of the loop in which requests that come together begin."""
    watch, begun = Watch(), list[int]()
    watch.go_on()

    async def begin() -> None:
        await turns.begin(context())
        begun.append(watch.num_turns)

    await asyncio.gather(*(begin() for _ in range(num_requests)))
    watch.stop()
    return begun


async def test_a_few_begin_in_a_turn_until_enough_are_under_way_and_then_one() -> None:
    turns = Turns()
    assert max(Counter(await begun_in(turns, FEW)).values()) == AT_ONCE
    more = await begun_in(turns, 20)
    assert max(Counter(more).values()) == 1
    assert max(later - sooner for sooner, later in itertools.pairwise(sorted(more))) == 1  # no turn is wasted
    for _ in range(FEW):
        turns.end()
    assert max(Counter(await begun_in(turns, 20)).values()) == AT_ONCE


async def test_the_urgent_and_those_of_other_callers_need_not_wait_for_all_that_came_before() -> None:
    turns, order = Turns(), list[str]()

    async def begin(name: str, *of: str) -> None:
        await turns.begin(context(*of))  # type: ignore[arg-type]  # a lane and a tenant
        order.append(name)

    many = [begin("many", "batch", "one") for _ in range(50)]
    await asyncio.gather(*many, begin("other", "batch", "two"), begin("urgent", "interactive", "one"))
    assert order.index("urgent") < 3 * AT_ONCE
    assert order.index("other") < 4 * AT_ONCE


async def test_who_has_left_is_passed_over() -> None:
    turns, begun = Turns(), list[int]()

    async def begin(number: int) -> None:
        await turns.begin(context())
        begun.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert begun == [0, 3]
    assert max(Counter(await begun_in(turns, FEW - 2)).values()) == AT_ONCE  # and counts no longer


async def test_a_request_begins_two_turns_after_it_came_however_many_come() -> None:
    turns, watch, waited = Turns(), Watch(), list[int]()
    watch.go_on()

    async def begin(after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        came = watch.num_turns
        await turns.begin(context())
        waited.append(watch.num_turns - came)

    await asyncio.gather(*(begin(after) for after in range(8) for _ in range(2)))
    watch.stop()
    assert min(waited) >= 2
