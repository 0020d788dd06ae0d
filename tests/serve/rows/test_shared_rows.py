"""Equal work is done once; who stops waiting, and who fails, harms nobody else."""

import asyncio
from collections.abc import Sequence

import pytest

from plumbline_models.core.errors import EngineError, OverloadedError
from plumbline_serve.deadline import Deadline
from plumbline_serve.rows import Joined, RowName, RowStore, SharedRows

NEVER = Deadline()
A, B, C = (RowName("text", "arithmetic/text", name) for name in (b"a", b"b", b"c"))


class Workshop:
    """Makes rows once it is let; a row is its name's digest in capitals."""

    def __init__(self) -> None:
        self.made: list[list[RowName]] = []
        self.may_go = asyncio.Event()
        self.num_cancelled = 0
        self.error: Exception | None = None
        self.bad: RowName | None = None

    async def make(self, names: Sequence[RowName]) -> list[object]:
        self.made.append(list(names))
        try:
            await self.may_go.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [EngineError("Bad.") if name == self.bad else name.digest.upper() for name in names]


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def rows(observer) -> SharedRows:
    return SharedRows(RowStore({"text": 2**20}), observer)


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_row_is_made_once_and_kept(rows, workshop, observer):
    workshop.may_go.set()
    assert await rows.get([A, B], workshop.make, NEVER) == {A: b"A", B: b"B"}
    assert await rows.get([B, C], workshop.make, NEVER) == {B: b"B", C: b"C"}
    assert workshop.made == [[A, B], [C]]
    assert observer.lookups == {("text", "miss"): 3, ("text", "hit"): 1}
    assert observer.kept_bytes["text"] > 0


async def test_what_is_under_way_is_waited_for_and_not_made_again(rows, workshop, observer):
    first = asyncio.create_task(rows.get([A, B], workshop.make, NEVER))
    await settled()
    second = asyncio.create_task(rows.get([B, C], workshop.make, NEVER))
    await settled()
    workshop.may_go.set()
    assert await second == {B: b"B", C: b"C"}
    assert await first == {A: b"A", B: b"B"}
    assert workshop.made == [[A, B], [C]]
    assert observer.lookups["text", "joined"] == 1


async def test_only_a_wait_for_what_another_has_made_is_noted(rows, workshop):
    mine, theirs = Joined(), Joined()
    calls = [
        asyncio.create_task(rows.get(names, workshop.make, NEVER, joined=joined))
        for names, joined in (([A, B], mine), ([B], mine), ([A, C], theirs))
    ]
    await settled()
    await asyncio.sleep(0.01)
    workshop.may_go.set()
    await asyncio.gather(*calls)
    assert workshop.made == [[A, B], [C]]
    assert mine.seconds == 0
    assert theirs.seconds > 0.005


async def test_who_asked_first_may_leave_while_another_waits(rows, workshop):
    first = asyncio.create_task(rows.get([A], workshop.make, NEVER))
    await settled()
    second = asyncio.create_task(rows.get([A], workshop.make, NEVER))
    await settled()
    first.cancel()
    await settled()
    workshop.may_go.set()
    assert await second == {A: b"A"}
    assert first.cancelled()
    assert workshop.made == [[A]]


async def test_work_that_nobody_waits_for_is_stopped_and_can_be_asked_for_again(rows, workshop):
    callers = [asyncio.create_task(rows.get([A], workshop.make, NEVER)) for _ in range(2)]
    await settled()
    for caller in callers:
        caller.cancel()
    await settled()
    assert workshop.num_cancelled == 1
    workshop.may_go.set()
    assert await rows.get([A], workshop.make, NEVER) == {A: b"A"}


async def test_work_that_is_stopped_before_it_began_leaves_nothing_behind(rows, workshop):
    caller = asyncio.create_task(rows.get([A], workshop.make, NEVER))
    await asyncio.sleep(0)
    caller.cancel()
    again = asyncio.create_task(rows.get([A], workshop.make, NEVER))
    workshop.may_go.set()
    assert await again == {A: b"A"}


async def test_nobody_joins_work_that_ends_before_its_own_deadline(rows, workshop):
    hurried = asyncio.create_task(rows.get([A], workshop.make, Deadline.after_ms(60_000)))
    await settled()
    patient = asyncio.create_task(rows.get([A], workshop.make, NEVER))
    await settled()
    also_hurried = asyncio.create_task(rows.get([A], workshop.make, Deadline.after_ms(30_000)))
    await settled()
    workshop.may_go.set()
    assert [await call for call in (hurried, patient, also_hurried)] == [{A: b"A"}] * 3
    assert workshop.made == [[A], [A]]


async def test_what_stops_one_caller_s_work_is_tried_again_by_those_who_waited(rows, workshop):
    workshop.error = OverloadedError("Full.")
    calls = [asyncio.create_task(rows.get(names, workshop.make, NEVER)) for names in ([A, B], [A], [A])]
    await settled()
    workshop.may_go.set()
    refused, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, OverloadedError)
    assert others == [{A: b"A"}] * 2
    assert workshop.made == [[A, B], [A]]


async def test_an_input_s_error_is_shared_and_not_kept(rows, workshop):
    workshop.bad = A
    calls = [asyncio.create_task(rows.get([A, B], workshop.make, NEVER)) for _ in range(2)]
    await settled()
    workshop.may_go.set()
    assert [isinstance((await call)[A], EngineError) for call in calls] == [True, True]
    workshop.bad = None
    assert await rows.get([A, B], workshop.make, NEVER) == {A: b"A", B: b"B"}
    assert workshop.made == [[A, B], [A]]


async def test_work_is_shared_where_nothing_is_kept(workshop, observer):
    rows = SharedRows(RowStore({}), observer)
    calls = [asyncio.create_task(rows.get([A], workshop.make, NEVER)) for _ in range(2)]
    await settled()
    workshop.may_go.set()
    assert [await call for call in calls] == [{A: b"A"}] * 2
    assert await rows.get([A], workshop.make, NEVER) == {A: b"A"}
    assert workshop.made == [[A], [A]]
