"""Batches form when the encoder becomes free, stay within bounds, and never let one input harm another."""

import asyncio
import threading
import time

import pytest

from plumbline_models.core.errors import EngineError, OverloadedError
from plumbline_serve.batching import Batcher, BatchLimits
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import RequestContext
from tests.serve.batching.gates import LIMITS, entered, settled

CONTEXT = RequestContext()


async def test_encodings_come_back_in_the_order_of_the_inputs(make_encoder, observer):
    batcher = Batcher(make_encoder(), LIMITS, observer)
    encoded = await batcher.encode([float(i) for i in range(20)], RequestContext())
    assert encoded.encodings == [float(i) for i in range(20)]
    await batcher.close()


async def test_what_arrives_while_the_encoder_is_busy_goes_together(gated, observer):
    encoder, batcher = gated
    calls = [asyncio.create_task(batcher.encode([float(i)], RequestContext())) for i in range(1, 6)]
    await asyncio.sleep(0)
    encoder.gate.set()
    assert [(await call).encodings for call in calls] == [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert encoder.batches == [[0.0], [1.0, 2.0, 3.0, 4.0, 5.0]]


async def test_a_batch_carries_no_more_cost_than_the_encoder_takes(gated):
    encoder, batcher = gated
    call = asyncio.create_task(batcher.encode([float(i) for i in range(1, 20)], RequestContext()))
    await asyncio.sleep(0)
    encoder.gate.set()
    await call
    assert [len(batch) for batch in encoder.batches] == [1, 8, 8, 3]


async def test_the_configured_limit_holds_where_the_encoder_would_take_more(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=0.0, max_batch=3, is_adaptive=False), observer)
    await batcher.encode([float(i) for i in range(8)], RequestContext())
    assert [len(batch) for batch in encoder.batches] == [3, 3, 2]
    await batcher.close()


async def test_inputs_of_different_buckets_never_share_a_batch(make_encoder, observer):
    encoder = make_encoder("image", "arithmetic/bucketed")
    batcher = Batcher(encoder, LIMITS, observer)
    encoded = await batcher.encode([1.0, 2.0, 3.0, 4.0], RequestContext())
    assert encoded.encodings == [1.0, 2.0, 3.0, 4.0]
    assert sorted(encoder.batches) == [[1.0, 3.0], [2.0, 4.0]]
    await batcher.close()


async def test_inputs_of_deterministic_requests_go_alone_and_the_others_together(gated):
    encoder, batcher = gated
    contexts = [RequestContext(is_deterministic=True), RequestContext(), RequestContext(), RequestContext()]
    calls = [
        asyncio.create_task(batcher.encode([float(10 * i + j) for j in range(3)], context))
        for i, context in enumerate(contexts)
    ]
    await asyncio.sleep(0)
    encoder.gate.set()
    assert (await calls[0]).encodings == [0.0, 1.0, 2.0]
    await asyncio.gather(*calls)
    _, *batches = encoder.batches
    assert [batch for batch in batches if min(batch) < 10] == [[0.0], [1.0], [2.0]]
    assert max(map(len, batches)) > 3


async def test_a_deterministic_input_waits_for_none_that_it_would_go_with(make_encoder, observer):
    batcher = Batcher(make_encoder(), BatchLimits(max_queued=64, max_linger_s=60.0), observer)
    batcher.expect(RequestContext(), 1)
    async with asyncio.timeout(30):
        await batcher.encode([1.0], RequestContext(is_deterministic=True))
    await batcher.close()


async def test_an_input_that_fails_takes_nobody_with_it(make_encoder, observer):
    encoder = make_encoder()
    encoder.poison = 3.0
    batcher = Batcher(encoder, LIMITS, observer)
    encoded = await batcher.encode([0.0, 1.0, 2.0, 3.0, 4.0], RequestContext())
    assert [each for each in encoded.encodings if not isinstance(each, EngineError)] == [0.0, 1.0, 2.0, 4.0]
    assert isinstance(encoded.encodings[3], EngineError)
    await batcher.close()


async def test_several_inputs_that_fail_take_nobody_with_them(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, LIMITS, observer)
    await batcher.encode([0.0], RequestContext())
    encoder.poison = 3.0
    encodings = (await batcher.encode([3.0, 1.0, 3.0, 3.0, 3.0, 3.0, 2.0, 3.0], RequestContext())).encodings
    assert [i for i, each in enumerate(encodings) if not isinstance(each, EngineError)] == [1, 6]
    assert (batcher.is_alive, observer.num_broken) == (True, 0)
    await batcher.close()


@pytest.mark.parametrize("has_encoded", [False, True])
async def test_an_encoder_that_fails_on_everything_is_not_tried_input_by_input(make_encoder, observer, has_encoded):
    encoder = make_encoder()
    batcher = Batcher(encoder, LIMITS, observer)
    if has_encoded:
        await batcher.encode([0.0], RequestContext())
    encoder.is_broken = True
    before = len(encoder.batches)
    encodings = (await batcher.encode([float(i) for i in range(8)], RequestContext())).encodings
    assert all(isinstance(each, EngineError) for each in encodings)
    assert len(encoder.batches) - before <= 5  # the whole, its halves, and what had been encoded, twice
    await batcher.close()


async def test_inputs_that_fail_again_and_again_do_not_condemn_the_encoder(make_encoder, observer):
    encoder = make_encoder()
    encoder.poison = 3.0
    batcher = Batcher(encoder, LIMITS, observer)
    await batcher.encode([0.0], RequestContext())
    for _ in range(5):
        await batcher.encode([3.0], RequestContext())
    assert batcher.is_alive
    await batcher.close()


@pytest.mark.parametrize(
    ("load_s", "is_alive"),
    [
        pytest.param(0.0, False, id="longer than any batch before"),
        pytest.param(600.0, True, id="no longer than loading took"),
    ],
)
async def test_a_batch_is_stuck_by_what_batches_have_taken(make_encoder, observer, load_s, is_alive):
    encoder = make_encoder()
    limits = BatchLimits(max_queued=64, max_linger_s=0.0, min_stuck_s=0.01)
    batcher = Batcher(encoder, limits, observer, load_s=load_s)
    encoder.gate = threading.Event()
    busy = asyncio.create_task(batcher.encode([0.0], RequestContext()))
    await entered(encoder)
    await asyncio.sleep(0.02)
    assert batcher.is_alive is is_alive
    encoder.gate.set()
    await busy
    assert batcher.is_alive
    await batcher.close()


@pytest.mark.parametrize("num_calls", [1, 4])
async def test_one_image_waits_for_two_batches_at_most_however_much_another_caller_has(gated, num_calls):
    encoder, batcher = gated  # it is busy: that is the first of the two
    bulk = [asyncio.create_task(batcher.encode([1.0] * 12, RequestContext())) for _ in range(num_calls)]
    await settled()
    single = asyncio.create_task(batcher.encode([2.0], RequestContext()))
    await settled()
    encoder.gate.set()
    await asyncio.gather(*bulk, single)
    assert 2.0 in encoder.batches[1]


async def test_large_work_is_done_while_small_work_goes_on_coming(gated):
    encoder, batcher = gated
    bulk = asyncio.create_task(batcher.encode([1.0] * 32, RequestContext()))
    await settled()
    small = {asyncio.create_task(batcher.encode([2.0] * 8, RequestContext())) for _ in range(2)}
    encoder.gate.set()
    while not bulk.done():
        _, small = await asyncio.wait(small, return_when=asyncio.FIRST_COMPLETED)
        while len(small) < 2:
            small.add(asyncio.create_task(batcher.encode([2.0] * 8, RequestContext())))
    await asyncio.gather(*small)
    assert (await bulk).encodings == [1.0] * 32


async def test_a_place_that_is_reserved_goes_before_what_comes_later(gated):
    encoder, batcher = gated
    first, second = RequestContext(), RequestContext()
    batcher.reserve(first, 8)
    later = asyncio.create_task(batcher.encode([2.0] * 8, second))
    await settled()
    earlier = asyncio.create_task(batcher.encode([1.0] * 8, first))
    await settled()
    batcher.release(first)
    encoder.gate.set()
    await asyncio.gather(later, earlier)
    assert encoder.batches[1:] == [[1.0] * 8, [2.0] * 8]
    assert batcher.load.backlog.cost == 0


async def test_a_place_that_is_given_up_counts_no_longer(gated):
    _, batcher = gated
    context = RequestContext()
    batcher.reserve(context, 8)
    assert batcher.load.backlog.cost == 8
    batcher.release(context)
    assert batcher.load.backlog.cost == 0


def pace(batcher, seconds: float) -> None:
    """As if every input had taken so long so far."""
    for cost in (1.0, 8.0, 4.0):
        batcher._runner.pace.learn(cost, seconds * cost)


async def test_what_would_be_late_is_refused_while_it_waits_and_counts_no_longer(gated, observer):
    encoder, batcher = gated
    kept = asyncio.create_task(batcher.encode([1.0] * 8, RequestContext()))
    await settled()
    late = asyncio.create_task(batcher.encode([2.0] * 8, RequestContext(Deadline.after_ms(60_000))))
    await settled()
    pace(batcher, 30.0)  # 4 minutes for what goes before
    encoder.gate.set()
    with pytest.raises(OverloadedError) as refusal:
        await late
    assert refusal.value.facts["reason"] == "late"
    assert (await kept).encodings == [1.0] * 8
    assert (batcher.num_queued, batcher.load.backlog.cost, observer.num_queued["normal"]) == (0, 0, 0)
    assert [2.0] * 8 not in encoder.batches


async def test_a_batch_that_is_late_is_taken_to_go_on_for_as_long_again(gated):
    _, batcher = gated
    runner = batcher._runner
    (number,) = runner._ends_at
    runner._ends_at[number] = time.monotonic() - 100.0
    assert runner.left_s == pytest.approx(100.0, abs=10.0)


async def test_what_would_be_late_is_computed_where_nothing_else_waits(gated):
    encoder, batcher = gated
    alone = asyncio.create_task(batcher.encode([2.0], RequestContext(Deadline.after_ms(60_000))))
    await settled()
    pace(batcher, 300.0)  # which may be wrong
    encoder.gate.set()
    assert (await alone).encodings == [2.0]


async def test_callers_that_hang_up_while_they_wait_cost_nothing(gated, observer):
    encoder, batcher = gated
    calls = [asyncio.create_task(batcher.encode([float(i)], RequestContext())) for i in range(60)]
    await settled()
    for call in calls[10:]:
        call.cancel()
    await asyncio.gather(*calls[10:], return_exceptions=True)
    encoder.gate.set()
    await asyncio.gather(*calls[:10])
    assert (observer.num_unwanted, sum(observer.batch_sizes)) == (0, 11)


async def test_inputs_that_were_computed_for_nobody_are_counted(make_encoder, observer):
    encoder = make_encoder()
    encoder.gate = threading.Event()
    batcher = Batcher(encoder, LIMITS, observer)
    gone = asyncio.create_task(batcher.encode([1.0, 2.0], RequestContext()))
    await entered(encoder)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    encoder.gate.set()
    assert (await batcher.encode([3.0], RequestContext())).encodings == [3.0]
    assert (observer.num_unwanted, sum(observer.batch_sizes)) == (2, 3)
    await batcher.close()


async def test_a_batch_waits_for_inputs_that_are_announced(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=30.0, is_adaptive=False), observer)
    batcher.expect(CONTEXT, 2)
    first = asyncio.create_task(batcher.encode([1.0], RequestContext()))
    await asyncio.sleep(0.02)
    assert encoder.batches == []
    second = asyncio.create_task(batcher.encode([2.0], RequestContext()))
    await asyncio.sleep(0)
    batcher.expect(CONTEXT, -2)
    await asyncio.gather(first, second)
    assert encoder.batches == [[1.0, 2.0]]
    await batcher.close()


async def test_nothing_waits_for_announced_inputs_where_batches_gain_nothing(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=30.0, is_adaptive=False), observer)
    batcher._runner.pace.learn(1.0, 1.0)
    batcher._runner.pace.learn(4.0, 4.0)
    batcher.expect(CONTEXT, 1)
    assert (await batcher.encode([1.0], RequestContext())).encodings == [1.0]
    await batcher.close()


async def test_inputs_that_still_wait_when_the_batcher_closes_are_answered(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=30.0, is_adaptive=False), observer)
    batcher.expect(CONTEXT, 1)
    waiting = asyncio.create_task(batcher.encode([1.0], RequestContext()))
    await asyncio.sleep(0)
    await batcher.close()
    assert isinstance((await waiting).encodings[0], EngineError)
    assert not batcher.is_alive
    with pytest.raises(EngineError):
        await batcher.encode([1.0], RequestContext())


async def test_inputs_that_are_being_computed_when_the_batcher_closes_are_answered(make_encoder, observer):
    encoder = make_encoder()
    encoder.gate = threading.Event()
    batcher = Batcher(encoder, LIMITS, observer)
    busy = asyncio.create_task(batcher.encode([1.0], RequestContext()))
    await entered(encoder)
    await batcher.close()
    assert isinstance((await busy).encodings[0], EngineError)
