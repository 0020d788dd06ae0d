"""Equal work is done once; who stops waiting, and who fails, harms nobody else."""

import asyncio
from collections.abc import Sequence

import pytest

from plumbline_models.core.errors import EngineError, OverloadedError
from plumbline_serve.encoding_cache import Claim, EncodingCache, EncodingKey, EncodingStore
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import Priority, RequestContext

A, B, C = (EncodingKey("text", "arithmetic/text", name) for name in (b"a", b"b", b"c"))


class Requests:
    """Looks up encodings as requests do; what is to compute is computed once it may, its digest in capitals."""

    def __init__(self, cache: EncodingCache) -> None:
        self.cache = cache
        self.computed: list[list[EncodingKey]] = []
        self.may_go = asyncio.Event()
        self.num_cancelled = 0
        self.error: Exception | None = None
        self.bad: EncodingKey | None = None
        self.joined_s: dict[RequestContext, float] = {}

    async def get(self, keys: Sequence[EncodingKey], context: RequestContext | None = None) -> dict:
        context = context or RequestContext()
        found: dict[EncodingKey, object] = {}
        while wanted := [key for key in keys if key not in found]:
            claim = self.cache.claim(wanted, context)
            if claim.mine:
                claim.start(self.compute(claim))
            found |= await claim.encodings()
            self.joined_s[context] = max(self.joined_s.get(context, 0.0), claim.joined_s)
        return found

    async def compute(self, claim: Claim) -> None:
        self.computed.append(list(claim.mine))
        try:
            await self.may_go.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        claim.publish([EngineError("Bad.") if key == self.bad else key.digest.upper() for key in claim.mine])


@pytest.fixture
def requests(observer) -> Requests:
    return Requests(EncodingCache(EncodingStore({"text": 2**20}), observer))


def alone(key: EncodingKey) -> EncodingKey:
    return key._replace(is_alone=True)


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_encoding_is_computed_once_and_kept(requests, observer):
    requests.may_go.set()
    assert await requests.get([A, B]) == {A: b"A", B: b"B"}
    assert await requests.get([B, C]) == {B: b"B", C: b"C"}
    assert requests.computed == [[A, B], [C]]
    assert observer.lookups == {("text", "miss"): 3, ("text", "hit"): 1}
    assert observer.stored_bytes["text"] > 0


async def test_what_is_under_way_is_waited_for_and_not_computed_again(requests, observer):
    first = asyncio.create_task(requests.get([A, B]))
    await settled()
    second = asyncio.create_task(requests.get([B, C]))
    await settled()
    requests.may_go.set()
    assert await second == {B: b"B", C: b"C"}
    assert await first == {A: b"A", B: b"B"}
    assert requests.computed == [[A, B], [C]]
    assert observer.lookups["text", "joined"] == 1


async def test_only_a_wait_for_what_another_computes_is_noted(requests):
    mine, theirs = RequestContext(), RequestContext()
    calls = [
        asyncio.create_task(requests.get(keys, context))
        for keys, context in (([A, B], mine), ([B], mine), ([A, C], theirs))
    ]
    await settled()
    await asyncio.sleep(0.01)
    requests.may_go.set()
    await asyncio.gather(*calls)
    assert requests.computed == [[A, B], [C]]
    assert requests.joined_s[mine] == 0
    assert requests.joined_s[theirs] > 0.005


async def test_who_asked_first_may_leave_while_another_waits(requests):
    first = asyncio.create_task(requests.get([A]))
    await settled()
    second = asyncio.create_task(requests.get([A]))
    await settled()
    first.cancel()
    await settled()
    requests.may_go.set()
    assert await second == {A: b"A"}
    assert first.cancelled()
    assert requests.computed == [[A]]


async def test_work_that_nobody_waits_for_is_stopped_and_can_be_asked_for_again(requests):
    callers = [asyncio.create_task(requests.get([A])) for _ in range(2)]
    await settled()
    for caller in callers:
        caller.cancel()
    await settled()
    assert requests.num_cancelled == 1
    requests.may_go.set()
    assert await requests.get([A]) == {A: b"A"}


async def test_work_that_is_stopped_before_it_began_leaves_nothing_behind(requests):
    caller = asyncio.create_task(requests.get([A]))
    await asyncio.sleep(0)
    caller.cancel()
    again = asyncio.create_task(requests.get([A]))
    requests.may_go.set()
    assert await again == {A: b"A"}


async def test_nobody_joins_work_that_ends_before_its_own_deadline(requests):
    hurried = asyncio.create_task(requests.get([A], RequestContext(Deadline.after_ms(60_000))))
    await settled()
    patient = asyncio.create_task(requests.get([A]))
    await settled()
    also_hurried = asyncio.create_task(requests.get([A], RequestContext(Deadline.after_ms(30_000))))
    await settled()
    requests.may_go.set()
    assert [await call for call in (hurried, patient, also_hurried)] == [{A: b"A"}] * 3
    assert requests.computed == [[A], [A]]


@pytest.mark.parametrize(
    ("of_work", "of_request", "num_computed"),
    [
        pytest.param("batch", "normal", 2, id="less urgent work is not waited for"),
        pytest.param("interactive", "batch", 1, id="more urgent work is"),
    ],
)
async def test_nobody_joins_work_that_is_less_urgent(
    requests, of_work: Priority, of_request: Priority, num_computed: int
):
    calls = []
    for priority in (of_work, of_request):
        calls.append(asyncio.create_task(requests.get([A], RequestContext(priority=priority))))
        await settled()
    requests.may_go.set()
    assert [await call for call in calls] == [{A: b"A"}] * 2
    assert len(requests.computed) == num_computed


async def test_what_stops_one_caller_s_work_is_tried_again_by_those_who_waited(requests):
    requests.error = OverloadedError("Full.")
    calls = [asyncio.create_task(requests.get(keys)) for keys in ([A, B], [A], [A])]
    await settled()
    requests.may_go.set()
    refused, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, OverloadedError)
    assert others == [{A: b"A"}] * 2
    assert requests.computed == [[A, B], [A]]


async def test_an_input_s_error_is_shared_and_not_kept(requests):
    requests.bad = A
    calls = [asyncio.create_task(requests.get([A, B])) for _ in range(2)]
    await settled()
    requests.may_go.set()
    assert [isinstance((await call)[A], EngineError) for call in calls] == [True, True]
    requests.bad = None
    assert await requests.get([A, B]) == {A: b"A", B: b"B"}
    assert requests.computed == [[A, B], [A]]


async def test_work_is_shared_where_nothing_is_kept(observer):
    requests = Requests(EncodingCache(EncodingStore({}), observer))
    calls = [asyncio.create_task(requests.get([A])) for _ in range(2)]
    await settled()
    requests.may_go.set()
    assert [await call for call in calls] == [{A: b"A"}] * 2
    assert await requests.get([A]) == {A: b"A"}
    assert requests.computed == [[A], [A]]


async def test_work_that_ends_without_encodings_is_an_error_and_no_endless_wait(observer):
    async def nothing() -> None: ...

    claim = EncodingCache(EncodingStore({}), observer).claim([A], RequestContext())
    claim.start(nothing())
    with pytest.raises(RuntimeError, match="without encodings"):
        await claim.encodings()


async def test_what_was_made_in_a_batch_is_not_handed_out_as_made_alone(requests):
    requests.may_go.set()
    assert await requests.get([A]) == {A: b"A"}
    assert requests.cache.missing([A, alone(A)], RequestContext()) == [alone(A)]
    await requests.get([alone(A)])
    assert requests.computed == [[A], [alone(A)]]


async def test_what_is_being_made_in_a_batch_is_not_joined_by_who_wants_it_made_alone(requests):
    calls = [asyncio.create_task(requests.get([key])) for key in (A, alone(A), alone(A))]
    await settled()
    assert requests.computed == [[A], [alone(A)]]
    requests.may_go.set()
    await asyncio.gather(*calls)


async def test_what_was_made_alone_is_good_for_all(requests):
    requests.may_go.set()
    await requests.get([alone(A)])
    assert requests.cache.missing([A], RequestContext()) == []
    assert requests.cache.stored([A, B]) == {A: b"A"}
    assert await requests.get([A]) == {A: b"A"}
    assert requests.computed == [[alone(A)]]


async def test_one_encoding_does_not_wait_for_the_many_of_another_request_and_many_do(requests) -> None:
    keys = [EncodingKey("text", "arithmetic/text", bytes([number])) for number in range(200)]
    bulk = asyncio.create_task(requests.get(keys))
    await asyncio.sleep(0)
    alike = asyncio.create_task(requests.get(keys[50:]))
    single = asyncio.create_task(requests.get(keys[100:101]))
    for _ in range(2):
        await asyncio.sleep(0)
    assert requests.cache.missing(keys[100:101], RequestContext()) == []  # it joins the single one
    assert requests.cache.missing(keys[:1], RequestContext()) == keys[:1]
    assert requests.computed == [keys, keys[100:101]]
    requests.may_go.set()
    assert await single == {keys[100]: keys[100].digest.upper()}
    assert len(await bulk) == 200
    assert len(await alike) == 150
