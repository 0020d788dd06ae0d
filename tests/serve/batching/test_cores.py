"""Long batches of encoders on a CPU take turns at its cores; short ones, and those on other devices, wait for none."""

import asyncio
import threading
from dataclasses import replace

import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_serve.batching import Batcher, BatchLimits, LocalCompute
from plumbline_serve.batching.cores import SHORT_S, TURNS_PER_STREAM, Cores
from plumbline_serve.scheduling.concurrency import Deadline
from plumbline_serve.scheduling.request_context import RequestContext
from tests.serve.batching.gates import LIMITS, entered, settled

LONG_S = 10 * SHORT_S


def learn(batcher: Batcher, seconds: float) -> None:
    """As if every input had taken so long so far."""
    for cost in (1.0, 4.0, 2.0):
        batcher._runner.pace.learn(cost, seconds * cost)


@pytest.fixture
async def sharing(make_encoder, observer):
    """Makes encoders whose gates are shut, with batchers that share two turns."""
    cores, made = Cores(2), []

    def make(num: int, seconds: float = LONG_S):
        for _ in range(num):
            encoder = make_encoder()
            encoder.gate = threading.Event()
            batcher = Batcher(encoder, LIMITS, observer, cores=cores)
            learn(batcher, seconds)
            made.append((encoder, batcher))
        return made[-num:]

    yield make
    for encoder, _ in made:
        encoder.gate.set()
    for _, batcher in made:
        await batcher.close()


def asked(batcher: Batcher, value: float, **context) -> asyncio.Task:
    return asyncio.create_task(batcher.encode([value], RequestContext(**context)))


async def all_asked(made, num: int = 4) -> list[asyncio.Task]:
    """A call to each; the first two are being computed."""
    calls = []
    for encoder, batcher in made[:2]:
        calls.append(asked(batcher, 1.0))
        await entered(encoder)
    for _, batcher in made[2:num]:
        calls.append(asked(batcher, 1.0))
        await settled()
    return calls


async def test_two_long_batches_are_computed_at_a_time_one_is_ready_and_others_are_not_formed_yet(sharing):
    made = sharing(4)
    calls = await all_asked(made)
    calls += [asked(batcher, 2.0) for _, batcher in made[2:]]
    await asyncio.sleep(0.05)
    assert [encoder.batches for encoder, _ in made] == [[[1.0]], [[1.0]], [], []]
    assert [batcher.is_busy for _, batcher in made] == [True] * 4
    assert [batcher.num_queued for _, batcher in made] == [0, 0, 1, 2]
    for encoder, _ in made:
        encoder.gate.set()
    await asyncio.gather(*calls)
    assert [encoder.batches for encoder, _ in made[2:]] == [[[1.0], [2.0]], [[1.0, 2.0]]]


async def test_a_short_batch_waits_for_no_turn(sharing):
    long, (short,) = sharing(3), sharing(1, seconds=SHORT_S / 10)
    calls = await all_asked(long)
    short[0].gate.set()
    assert (await asked(short[1], 3.0)).encodings == [3.0]
    for encoder, _ in long:
        encoder.gate.set()
    await asyncio.gather(*calls)


async def test_who_leaves_while_a_turn_is_waited_for_is_not_computed_and_takes_no_turn(sharing):
    made = sharing(4)
    calls = await all_asked(made)
    calls.pop().cancel()
    for encoder, _ in made:
        encoder.gate.set()
    await asyncio.gather(*calls)
    assert made[3][0].batches == []
    assert (await asyncio.gather(*(asked(batcher, 2.0) for _, batcher in made)))[3].encodings == [2.0]


async def test_of_a_batch_that_is_ready_only_what_is_still_wanted_is_computed(sharing, observer):
    made = sharing(3)
    calls = await all_asked(made, 2)
    ready = made[2][1]
    context = RequestContext(Deadline.after_ms(900))
    left = asyncio.create_task(ready.encode([1.0, 2.0], RequestContext()))
    late = asyncio.create_task(ready.encode([3.0], context))
    kept = asked(ready, 4.0)
    await settled()
    assert ready.num_queued == 0  # it is formed
    left.cancel()
    await asyncio.sleep(1.0)
    for encoder, _ in made:
        encoder.gate.set()
    assert isinstance((await late).encodings[0], DeadlineExceededError)
    assert (await kept).encodings == [4.0]
    await asyncio.gather(*calls)
    assert made[2][0].batches == [[4.0]]
    assert observer.num_unwanted == 0
    assert observer.expired_stages == ["queue"]


async def test_a_batch_that_nobody_wants_any_more_is_not_computed_and_counts_for_nothing(sharing, observer):
    made = sharing(3)
    calls = await all_asked(made)
    calls.pop().cancel()
    await settled()
    made[2][0].gate.set()
    made[0][0].gate.set()
    await calls[0]
    assert (await asked(made[2][1], 5.0)).encodings == [5.0]
    assert made[2][0].batches == [[5.0]]
    assert sum(observer.batch_sizes) == 2
    made[1][0].gate.set()
    await calls[1]


async def test_a_batcher_that_is_closed_while_it_waits_leaves_the_turns_to_others(sharing):
    made = sharing(4)
    calls = await all_asked(made)
    await made[3][1].close()
    for encoder, _ in made:
        encoder.gate.set()
    assert [each.encodings for each in await asyncio.gather(*calls[:3])] == [[1.0]] * 3
    await asyncio.gather(*(asked(batcher, 2.0) for _, batcher in made[:3]))


async def test_what_turns_were_waited_for_counts_until_there_is_one_left(sharing):
    made = sharing(4)
    calls = await all_asked(made)
    await asyncio.sleep(5 * LONG_S)
    idle = made[3][1]
    assert idle.load.turn_s < 1e-3  # nothing has waited long for a turn, and got it, so far
    made[0][0].gate.set()
    await calls[0]
    await settled()
    assert idle.load.turn_s >= LONG_S / 2  # a fifth of five times as much
    for encoder, _ in made:
        encoder.gate.set()
    await asyncio.gather(*calls)
    assert idle.load.turn_s == 0.0


async def test_a_batch_may_take_long_only_from_when_its_turn_has_come(sharing):
    made = sharing(3)
    calls = await all_asked(made)
    waiting = made[2][1]
    before = waiting._runner.pace.line
    await asyncio.sleep(20 * LONG_S)
    made[2][0].gate.set()
    made[0][0].gate.set()
    await asyncio.gather(calls[0], calls[2])
    assert waiting._runner.pace.line.seconds(1.0, 8.0) < 2 * before.seconds(1.0, 8.0)
    made[1][0].gate.set()
    await calls[1]


async def test_encoders_on_a_cpu_share_turns_by_their_streams_and_those_on_other_devices_take_none(
    make_encoder, observer
):
    on_cpu, two, on_gpu = make_encoder(key="a"), make_encoder(key="b"), make_encoder(key="c")
    two.num_streams = 2
    info = on_gpu.info()
    on_gpu.info = lambda: replace(info, device="cuda:0")
    compute = LocalCompute([on_cpu, two, on_gpu], BatchLimits(max_queued=64, max_linger_s=0.0), observer)
    await compute.start()
    try:
        first, second, none = (compute._batchers[key]._cores for key in "abc")
        assert first is second
        assert first is not None
        assert none is None
        assert first.computing._value == 2 * TURNS_PER_STREAM
    finally:
        await compute.close()
