"""What waits for a batch: who finds room, and what is left of it when its time is up or its caller has gone."""

import asyncio

import pytest

from plumbline_models.core.errors import DeadlineExceededError, OverloadedError
from plumbline_serve.batching import Batcher, BatchLimits
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import Caller, RequestContext

CONTEXT = RequestContext()


async def test_a_full_queue_refuses_with_a_time_to_retry(gated):
    _, batcher = gated
    waiting = asyncio.create_task(batcher.encode([1.0] * 60, RequestContext()))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as refusal:
        await batcher.encode([2.0] * 40, RequestContext())
    assert refusal.value.retry_after_s > 0
    waiting.cancel()


async def is_refused(batcher: Batcher, num_inputs: int, context: RequestContext) -> bool:
    """Whether there is no room for inputs; those for which there is wait."""
    call = asyncio.create_task(batcher.encode([1.0] * num_inputs, context))
    await asyncio.sleep(0)
    return call.done() and isinstance(call.exception(), OverloadedError)


async def test_a_queue_that_one_tenant_has_filled_has_room_for_another_up_to_its_part(gated):
    _, batcher = gated
    bulk, other, third = (Caller(name) for name in ("bulk", "other", "third"))
    for _ in range(4):
        assert not await is_refused(batcher, 16, RequestContext(caller=bulk))
    assert await is_refused(batcher, 16, RequestContext(caller=bulk))
    assert not await is_refused(batcher, 30, RequestContext(caller=other))
    assert await is_refused(batcher, 16, RequestContext(caller=other))
    assert not await is_refused(batcher, 20, RequestContext(caller=third))
    assert await is_refused(batcher, 16, RequestContext(caller=Caller("fourth")))  # twice as many wait as may


async def test_a_queue_of_large_requests_has_room_for_small_ones_of_the_same_tenant(gated):
    _, batcher = gated
    for _ in range(4):
        assert not await is_refused(batcher, 16, RequestContext())
    assert await is_refused(batcher, 16, RequestContext())
    assert not any([await is_refused(batcher, 1, RequestContext()) for _ in range(32)])
    assert await is_refused(batcher, 1, RequestContext())  # half as many more wait as may


async def test_an_input_whose_deadline_passed_is_answered_and_not_computed(gated, observer):
    encoder, batcher = gated
    late = asyncio.create_task(batcher.encode([7.0], RequestContext(Deadline.after_ms(0))))
    kept = asyncio.create_task(batcher.encode([8.0], RequestContext()))
    await asyncio.sleep(0)
    encoder.gate.set()
    assert isinstance((await late).encodings[0], DeadlineExceededError)
    assert (await kept).encodings == [8.0]
    assert encoder.batches == [[0.0], [8.0]]
    assert observer.expired_stages == ["queue"]


async def test_an_input_whose_caller_has_gone_is_not_computed(gated):
    encoder, batcher = gated
    gone = asyncio.create_task(batcher.encode([7.0], RequestContext()))
    kept = asyncio.create_task(batcher.encode([8.0], RequestContext()))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    encoder.gate.set()
    await kept
    assert encoder.batches == [[0.0], [8.0]]


@pytest.mark.parametrize("num_inputs", [pytest.param(20, id="interactive"), pytest.param(64, id="bulk")])
async def test_what_callers_left_behind_is_out_of_the_queue_at_once(gated, observer, num_inputs):
    encoder, batcher = gated
    gone = asyncio.create_task(batcher.encode([7.0] * num_inputs, RequestContext()))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert (batcher.num_queued, set(observer.num_queued.values())) == (0, {0})
    kept = asyncio.create_task(batcher.encode([8.0] * 64, RequestContext()))  # all the room that there is
    await asyncio.sleep(0)
    encoder.gate.set()
    assert (await kept).encodings == [8.0] * 64


async def test_a_deadline_that_passes_in_the_queue_is_answered_while_the_encoder_is_busy(gated, observer):
    _, batcher = gated
    async with asyncio.timeout(20):  # the encoder stays busy until the test ends
        late = await batcher.encode([7.0] * 64, RequestContext(Deadline.after_ms(1)))
    assert all(isinstance(each, DeadlineExceededError) for each in late.encodings)
    assert (batcher.num_queued, observer.expired_stages) == (0, ["queue"] * 64)


async def test_a_caller_that_leaves_while_its_batch_waits_for_more_stops_nothing(make_encoder, observer):
    batcher = Batcher(make_encoder(), BatchLimits(max_queued=64, max_linger_s=30.0, is_adaptive=False), observer)
    batcher.expect(CONTEXT, 1)
    gone = asyncio.create_task(batcher.encode([1.0], RequestContext()))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    batcher.expect(CONTEXT, -1)
    assert (await batcher.encode([2.0], RequestContext())).encodings == [2.0]
    await batcher.close()
