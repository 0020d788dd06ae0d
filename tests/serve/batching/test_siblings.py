"""Texts go together when the batch of their images begins; what has no image to wait for does not wait."""

import asyncio
import threading
from typing import Any

import pytest

from plumbline_serve.batching import Batcher, BatchLimits
from plumbline_serve.batching import siblings as siblings_module
from plumbline_serve.batching.siblings import Siblings
from plumbline_serve.scheduling.request_context import RequestContext
from tests.serve.batching.gates import entered

LIMITS = BatchLimits(max_queued=64, max_linger_s=0.0, is_adaptive=False)
SLOW_S, FAST_S = 1.0, 0.01


@pytest.fixture
async def towers(make_encoder, observer, monkeypatch):
    """An image encoder that is busy until its gate opens, and a text encoder; both batchers know what they take."""
    monkeypatch.setattr("plumbline_serve.batching.batcher.MAX_EARLY_S", 30.0)
    image, text, shared = make_encoder("image"), make_encoder("text"), Siblings()
    image.gate = threading.Event()
    batchers = [Batcher(each, LIMITS, observer, siblings=shared) for each in (image, text)]
    for batcher, seconds in zip(batchers, (SLOW_S, FAST_S), strict=True):
        for cost in (1.0, 2.0, 4.0):
            batcher._runner.pace.learn(cost, seconds * cost)
    first = asyncio.create_task(batchers[0].encode([0.0], RequestContext()))
    await entered(image)
    yield image, text, *batchers
    image.gate.set()
    await first
    await asyncio.gather(*(batcher.close() for batcher in batchers))


async def requested(images: Batcher, texts: Batcher, value: float) -> tuple[Any, Any]:
    """One request for an image and its text."""
    context = RequestContext()
    image, text = await asyncio.gather(images.encode([value], context), texts.encode([value], context))
    return image.encodings[0], text.encodings[0]


async def test_texts_go_together_when_the_batch_of_their_images_begins(towers):
    image, text, images, texts = towers
    requests = []
    for value in (1.0, 2.0, 3.0):
        requests.append(asyncio.create_task(requested(images, texts, value)))
        await asyncio.sleep(0.01)  # each comes by itself: the text encoder is idle all the while
    assert text.batches == []
    image.gate.set()
    assert await asyncio.gather(*requests) == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert text.batches == [[1.0, 2.0, 3.0]]


async def test_a_text_without_an_image_waits_for_nobody_and_takes_others_along(towers):
    _, text, images, texts = towers
    waiting = asyncio.create_task(requested(images, texts, 1.0))
    await asyncio.sleep(0.01)
    assert (await texts.encode([2.0], RequestContext())).encodings == [2.0]
    assert text.batches == [[1.0, 2.0]]
    waiting.cancel()


async def test_a_text_whose_image_is_being_decoded_waits_as_well(towers):
    image, text, images, texts = towers
    context = RequestContext()
    images.expect(context, 1)
    waiting = asyncio.create_task(texts.encode([1.0], context))
    await asyncio.sleep(0.01)
    assert text.batches == []
    images.expect(context, -1)  # and could not be decoded
    assert (await waiting).encodings == [1.0]
    assert not image.gate.is_set()


async def test_a_full_batch_goes_at_once(towers):
    _, text, images, texts = towers
    requests = [asyncio.create_task(requested(images, texts, float(value))) for value in range(8)]
    async with asyncio.timeout(20):
        await asyncio.to_thread(text.entered.wait)
    assert [len(batch) for batch in text.batches] == [8]
    for request in requests:
        request.cancel()


async def test_nothing_waits_for_an_encoder_that_is_faster(towers):
    _, text, images, texts = towers
    for cost in (1.0, 2.0, 4.0) * 10:
        texts._runner.pace.learn(cost, 2 * SLOW_S * cost)
    waiting = asyncio.create_task(requested(images, texts, 1.0))
    async with asyncio.timeout(20):
        await asyncio.to_thread(text.entered.wait)
    waiting.cancel()


async def test_no_text_waits_longer_than_a_moment(towers, monkeypatch):
    _, text, images, texts = towers
    monkeypatch.setattr("plumbline_serve.batching.batcher.MAX_EARLY_S", 0.02)
    waiting = asyncio.create_task(requested(images, texts, 1.0))
    async with asyncio.timeout(20):  # its image's encoder stays busy until the test ends
        await asyncio.to_thread(text.entered.wait)
    waiting.cancel()
    assert 0 < siblings_module.MAX_EARLY_S < 1
