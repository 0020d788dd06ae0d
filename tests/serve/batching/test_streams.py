"""An encoder that computes several batches at a time: what waits is divided among its free streams."""

import asyncio
import threading

import pytest

from plumbline_serve.batching import Batcher
from plumbline_serve.scheduling.request_context import RequestContext
from tests.serve.batching.gates import LIMITS, entered


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
        calls.append(asyncio.create_task(batcher.encode([value], RequestContext())))
        await entered(encoder)
    calls += [asyncio.create_task(batcher.encode([value], RequestContext())) for value in (3.0, 4.0)]
    await asyncio.sleep(0.02)
    assert encoder.batches == [[1.0], [2.0]]
    encoder.gate.set()
    assert [(await call).encodings for call in calls] == [[1.0], [2.0], [3.0], [4.0]]
    assert sorted(encoder.batches)[:2] == [[1.0], [2.0]]


async def test_what_waits_is_divided_among_free_streams(double):
    encoder, batcher = double
    encoded = await batcher.encode([float(i) for i in range(7)], RequestContext())
    assert encoded.encodings == [float(i) for i in range(7)]
    assert sorted(encoder.batches) == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


async def test_the_only_free_stream_takes_all_that_waits(double):
    encoder, batcher = double
    encoder.gate = threading.Event()
    first = asyncio.create_task(batcher.encode([0.0], RequestContext()))
    await entered(encoder)
    rest = asyncio.create_task(batcher.encode([1.0, 2.0, 3.0], RequestContext()))
    await entered(encoder)
    encoder.gate.set()
    assert [(await call).encodings for call in (first, rest)] == [[0.0], [1.0, 2.0, 3.0]]
    assert encoder.batches == [[0.0], [1.0, 2.0, 3.0]]
