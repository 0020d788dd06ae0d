"""Batches form when the encoder becomes free, stay within bounds, and never let one input harm another."""

import asyncio
import threading

import pytest

from plumbline_models.core.errors import DeadlineExceededError, EngineError, OverloadedError
from plumbline_serve.batching import Batcher, BatchLimits
from plumbline_serve.deadline import Deadline

NEVER = Deadline()
LIMITS = BatchLimits(max_queued=64, max_linger_s=0.0)


async def entered(encoder) -> None:
    assert await asyncio.to_thread(encoder.entered.wait, 30)
    encoder.entered.clear()


@pytest.fixture
async def gated(make_encoder, observer):
    """An encoder that is busy with one input until its gate opens, and its batcher."""
    encoder = make_encoder()
    encoder.gate = threading.Event()
    batcher = Batcher(encoder, LIMITS, observer)
    first = asyncio.create_task(batcher.encode([0.0], NEVER))
    await entered(encoder)
    yield encoder, batcher
    encoder.gate.set()
    await first
    await batcher.close()


async def test_rows_come_back_in_the_order_of_the_inputs(make_encoder, observer):
    batcher = Batcher(make_encoder(), LIMITS, observer)
    encoded = await batcher.encode([float(i) for i in range(20)], NEVER)
    assert encoded.rows == [float(i) for i in range(20)]
    await batcher.close()


async def test_what_arrives_while_the_encoder_is_busy_goes_together(gated, observer):
    encoder, batcher = gated
    calls = [asyncio.create_task(batcher.encode([float(i)], NEVER)) for i in range(1, 6)]
    await asyncio.sleep(0)
    encoder.gate.set()
    assert [(await call).rows for call in calls] == [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert encoder.batches == [[0.0], [1.0, 2.0, 3.0, 4.0, 5.0]]


async def test_a_batch_carries_no_more_cost_than_the_encoder_takes(gated):
    encoder, batcher = gated
    call = asyncio.create_task(batcher.encode([float(i) for i in range(1, 20)], NEVER))
    await asyncio.sleep(0)
    encoder.gate.set()
    await call
    assert [len(batch) for batch in encoder.batches] == [1, 8, 8, 3]


async def test_the_configured_limit_holds_where_the_encoder_would_take_more(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=0.0, max_batch=3), observer)
    await batcher.encode([float(i) for i in range(8)], NEVER)
    assert [len(batch) for batch in encoder.batches] == [3, 3, 2]
    await batcher.close()


async def test_inputs_of_different_buckets_never_share_a_batch(make_encoder, observer):
    encoder = make_encoder("image", "arithmetic/bucketed")
    batcher = Batcher(encoder, LIMITS, observer)
    encoded = await batcher.encode([1.0, 2.0, 3.0, 4.0], NEVER)
    assert encoded.rows == [1.0, 2.0, 3.0, 4.0]
    assert sorted(encoder.batches) == [[1.0, 3.0], [2.0, 4.0]]
    await batcher.close()


async def test_an_input_that_fails_takes_nobody_with_it(make_encoder, observer):
    encoder = make_encoder()
    encoder.poison = 3.0
    batcher = Batcher(encoder, LIMITS, observer)
    encoded = await batcher.encode([0.0, 1.0, 2.0, 3.0, 4.0], NEVER)
    assert [row for row in encoded.rows if not isinstance(row, EngineError)] == [0.0, 1.0, 2.0, 4.0]
    assert isinstance(encoded.rows[3], EngineError)
    await batcher.close()


async def test_a_full_queue_refuses_with_a_time_to_retry(gated):
    _, batcher = gated
    waiting = asyncio.create_task(batcher.encode([1.0] * 60, NEVER))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as refusal:
        await batcher.encode([2.0] * 5, NEVER)
    assert refusal.value.retry_after_s > 0
    waiting.cancel()


async def test_an_input_whose_deadline_passed_is_answered_and_not_computed(gated, observer):
    encoder, batcher = gated
    late = asyncio.create_task(batcher.encode([7.0], Deadline.after_ms(0)))
    kept = asyncio.create_task(batcher.encode([8.0], NEVER))
    await asyncio.sleep(0)
    encoder.gate.set()
    assert isinstance((await late).rows[0], DeadlineExceededError)
    assert (await kept).rows == [8.0]
    assert encoder.batches == [[0.0], [8.0]]
    assert observer.expired_stages == ["queue"]


async def test_an_input_whose_caller_has_gone_is_not_computed(gated):
    encoder, batcher = gated
    gone = asyncio.create_task(batcher.encode([7.0], NEVER))
    kept = asyncio.create_task(batcher.encode([8.0], NEVER))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    encoder.gate.set()
    await kept
    assert encoder.batches == [[0.0], [8.0]]


async def test_a_single_image_does_not_stand_behind_a_large_call(gated):
    encoder, batcher = gated
    bulk = asyncio.create_task(batcher.encode([1.0] * 40, NEVER))
    await asyncio.sleep(0)
    single = asyncio.create_task(batcher.encode([2.0], NEVER))
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(bulk, single)
    assert 2.0 in encoder.batches[1]


async def test_bulk_work_leads_every_fourth_batch_so_that_it_cannot_starve(gated):
    encoder, batcher = gated
    bulk = asyncio.create_task(batcher.encode([1.0] * 32, NEVER))
    await asyncio.sleep(0)
    singles = [asyncio.create_task(batcher.encode([2.0] * 8, NEVER)) for _ in range(4)]
    await asyncio.sleep(0)
    encoder.gate.set()
    await asyncio.gather(bulk, *singles)
    assert [1.0] * 8 in encoder.batches[1:5]


@pytest.fixture
async def double(make_encoder, observer):
    """An encoder that takes two batches at a time, and its batcher."""
    encoder = make_encoder()
    encoder.num_streams = 2
    batcher = Batcher(encoder, LIMITS, observer)
    yield encoder, batcher
    await batcher.close()


async def test_a_second_stream_begins_while_the_first_is_busy_and_a_third_batch_waits(double):
    encoder, batcher = double
    encoder.gate = threading.Event()
    calls = []
    for value in (1.0, 2.0):
        calls.append(asyncio.create_task(batcher.encode([value], NEVER)))
        await entered(encoder)
    calls += [asyncio.create_task(batcher.encode([value], NEVER)) for value in (3.0, 4.0)]
    await asyncio.sleep(0.02)
    assert encoder.batches == [[1.0], [2.0]]
    encoder.gate.set()
    assert [(await call).rows for call in calls] == [[1.0], [2.0], [3.0], [4.0]]
    assert sorted(encoder.batches)[:2] == [[1.0], [2.0]]


async def test_what_waits_is_divided_among_free_streams(double):
    encoder, batcher = double
    encoded = await batcher.encode([float(i) for i in range(7)], NEVER)
    assert encoded.rows == [float(i) for i in range(7)]
    assert sorted(encoder.batches) == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


async def test_the_only_free_stream_takes_all_that_waits(double):
    encoder, batcher = double
    encoder.gate = threading.Event()
    first = asyncio.create_task(batcher.encode([0.0], NEVER))
    await entered(encoder)
    rest = asyncio.create_task(batcher.encode([1.0, 2.0, 3.0], NEVER))
    await entered(encoder)
    encoder.gate.set()
    assert [(await call).rows for call in (first, rest)] == [[0.0], [1.0, 2.0, 3.0]]
    assert encoder.batches == [[0.0], [1.0, 2.0, 3.0]]


async def test_a_batch_waits_for_inputs_that_are_announced(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=30.0), observer)
    batcher.expect(2)
    first = asyncio.create_task(batcher.encode([1.0], NEVER))
    await asyncio.sleep(0.02)
    assert encoder.batches == []
    second = asyncio.create_task(batcher.encode([2.0], NEVER))
    await asyncio.sleep(0)
    batcher.expect(-2)
    await asyncio.gather(first, second)
    assert encoder.batches == [[1.0, 2.0]]
    await batcher.close()


async def test_nothing_waits_for_announced_inputs_where_batches_gain_nothing(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=30.0), observer)
    batcher._pace.learn(1.0, 1.0)
    batcher._pace.learn(4.0, 4.0)
    batcher.expect(1)
    assert (await batcher.encode([1.0], NEVER)).rows == [1.0]
    await batcher.close()


async def test_inputs_that_still_wait_when_the_batcher_closes_are_answered(make_encoder, observer):
    encoder = make_encoder()
    batcher = Batcher(encoder, BatchLimits(max_queued=64, max_linger_s=30.0), observer)
    batcher.expect(1)
    waiting = asyncio.create_task(batcher.encode([1.0], NEVER))
    await asyncio.sleep(0)
    await batcher.close()
    assert isinstance((await waiting).rows[0], EngineError)
    assert not batcher.is_alive
