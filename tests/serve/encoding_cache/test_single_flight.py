"""Equal work is done once; who stops waiting, and who fails, harms nobody else."""

import asyncio
from collections.abc import Sequence

import pytest

from plumbline_models.core.errors import EngineError, OverloadedError
from plumbline_serve.concurrency import Deadline
from plumbline_serve.encoding_cache import EncodingCache, EncodingKey, EncodingStore, Joined

NEVER = Deadline()
A, B, C = (EncodingKey("text", "arithmetic/text", name) for name in (b"a", b"b", b"c"))


class BuildContext:
    """Makes rows once it is let; a row is its name's digest in capitals."""

    def __init__(self) -> None:
        self.made: list[list[EncodingKey]] = []
        self.may_go = asyncio.Event()
        self.num_cancelled = 0
        self.error: Exception | None = None
        self.bad: EncodingKey | None = None

    async def make(self, names: Sequence[EncodingKey]) -> list[object]:
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
def context() -> BuildContext:
    return BuildContext()


@pytest.fixture
def rows(observer) -> EncodingCache:
    return EncodingCache(EncodingStore({"text": 2**20}), observer)


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_row_is_made_once_and_kept(rows, context, observer):
    context.may_go.set()
    assert await rows.get([A, B], context.make, NEVER) == {A: b"A", B: b"B"}
    assert await rows.get([B, C], context.make, NEVER) == {B: b"B", C: b"C"}
    assert context.made == [[A, B], [C]]
    assert observer.lookups == {("text", "miss"): 3, ("text", "hit"): 1}
    assert observer.stored_bytes["text"] > 0


async def test_what_is_under_way_is_waited_for_and_not_made_again(rows, context, observer):
    first = asyncio.create_task(rows.get([A, B], context.make, NEVER))
    await settled()
    second = asyncio.create_task(rows.get([B, C], context.make, NEVER))
    await settled()
    context.may_go.set()
    assert await second == {B: b"B", C: b"C"}
    assert await first == {A: b"A", B: b"B"}
    assert context.made == [[A, B], [C]]
    assert observer.lookups["text", "joined"] == 1


async def test_only_a_wait_for_what_another_has_made_is_noted(rows, context):
    mine, theirs = Joined(), Joined()
    calls = [
        asyncio.create_task(rows.get(names, context.make, NEVER, joined=joined))
        for names, joined in (([A, B], mine), ([B], mine), ([A, C], theirs))
    ]
    await settled()
    await asyncio.sleep(0.01)
    context.may_go.set()
    await asyncio.gather(*calls)
    assert context.made == [[A, B], [C]]
    assert mine.seconds == 0
    assert theirs.seconds > 0.005


async def test_who_asked_first_may_leave_while_another_waits(rows, context):
    first = asyncio.create_task(rows.get([A], context.make, NEVER))
    await settled()
    second = asyncio.create_task(rows.get([A], context.make, NEVER))
    await settled()
    first.cancel()
    await settled()
    context.may_go.set()
    assert await second == {A: b"A"}
    assert first.cancelled()
    assert context.made == [[A]]


async def test_work_that_nobody_waits_for_is_stopped_and_can_be_asked_for_again(rows, context):
    callers = [asyncio.create_task(rows.get([A], context.make, NEVER)) for _ in range(2)]
    await settled()
    for caller in callers:
        caller.cancel()
    await settled()
    assert context.num_cancelled == 1
    context.may_go.set()
    assert await rows.get([A], context.make, NEVER) == {A: b"A"}


async def test_work_that_is_stopped_before_it_began_leaves_nothing_behind(rows, context):
    caller = asyncio.create_task(rows.get([A], context.make, NEVER))
    await asyncio.sleep(0)
    caller.cancel()
    again = asyncio.create_task(rows.get([A], context.make, NEVER))
    context.may_go.set()
    assert await again == {A: b"A"}


async def test_nobody_joins_work_that_ends_before_its_own_deadline(rows, context):
    hurried = asyncio.create_task(rows.get([A], context.make, Deadline.after_ms(60_000)))
    await settled()
    patient = asyncio.create_task(rows.get([A], context.make, NEVER))
    await settled()
    also_hurried = asyncio.create_task(rows.get([A], context.make, Deadline.after_ms(30_000)))
    await settled()
    context.may_go.set()
    assert [await call for call in (hurried, patient, also_hurried)] == [{A: b"A"}] * 3
    assert context.made == [[A], [A]]


async def test_what_stops_one_caller_s_work_is_tried_again_by_those_who_waited(rows, context):
    context.error = OverloadedError("Full.")
    calls = [asyncio.create_task(rows.get(names, context.make, NEVER)) for names in ([A, B], [A], [A])]
    await settled()
    context.may_go.set()
    refused, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, OverloadedError)
    assert others == [{A: b"A"}] * 2
    assert context.made == [[A, B], [A]]


async def test_an_input_s_error_is_shared_and_not_kept(rows, context):
    context.bad = A
    calls = [asyncio.create_task(rows.get([A, B], context.make, NEVER)) for _ in range(2)]
    await settled()
    context.may_go.set()
    assert [isinstance((await call)[A], EngineError) for call in calls] == [True, True]
    context.bad = None
    assert await rows.get([A, B], context.make, NEVER) == {A: b"A", B: b"B"}
    assert context.made == [[A, B], [A]]


async def test_work_is_shared_where_nothing_is_kept(context, observer):
    rows = EncodingCache(EncodingStore({}), observer)
    calls = [asyncio.create_task(rows.get([A], context.make, NEVER)) for _ in range(2)]
    await settled()
    context.may_go.set()
    assert [await call for call in calls] == [{A: b"A"}] * 2
    assert await rows.get([A], context.make, NEVER) == {A: b"A"}
    assert context.made == [[A], [A]]
