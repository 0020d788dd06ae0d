"""A request that has failed leaves nothing in memory, without the help of Python's collector of circles."""

import asyncio
import gc
import threading

import pytest

from plumbline_models.core.errors import DeadlineExceededError, ImageUndecodableError, OverloadedError
from plumbline_serve.messages import EncodedImage, Item, ScoreRequest
from plumbline_serve.requests.images import RequestImage
from plumbline_serve.requests.session import RequestSession
from plumbline_serve.scheduling.concurrency import release
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.scheduling.work import Work


def num_kept() -> int:
    return sum(type(each) in (RequestSession, RequestImage) for each in gc.get_objects())


async def ask(pipeline, images, *, timeout_ms=None, is_cancelled=False):
    """Score images; the kind of what goes wrong."""
    items = [Item(str(index), EncodedImage(image), "abc") for index, image in enumerate(images)]
    request = asyncio.create_task(pipeline.score(ScoreRequest(items, timeout_ms=timeout_ms)))
    if is_cancelled:
        await asyncio.sleep(0.05)
        request.cancel()
    try:
        return [type(getattr(result, "error", None)) for result in (await request).results]
    except (asyncio.CancelledError, DeadlineExceededError, OverloadedError) as error:
        release(error)
        return type(error)


@pytest.mark.usefixtures("no_collector")
async def test_images_that_cannot_be_decoded_are_let_go(open_pipeline):
    pipeline = await open_pipeline()
    assert await ask(pipeline, [b"no image", b"nor this"]) == [ImageUndecodableError] * 2
    assert num_kept() == 0


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        pytest.param({"timeout_ms": 1000}, DeadlineExceededError, id="time is up"),
        pytest.param({"is_cancelled": True}, asyncio.CancelledError, id="caller has gone"),
        pytest.param({}, OverloadedError, id="queue is full"),
    ],
)
async def test_a_request_that_was_stopped_is_let_go(open_pipeline, scorers, png, how, kind):
    pipeline, encoder = await open_pipeline(max_queued=1000 if how else 1), scorers["mean"].image
    encoder.gate = threading.Event()
    first = asyncio.create_task(ask(pipeline, [png(8)]))
    await asyncio.to_thread(encoder.entered.wait, 30)
    second = asyncio.create_task(ask(pipeline, [png(9)]))
    await pipeline._tools.pools.decode.run(int, context=RequestContext(), work=Work("nothing", 1))  # behind the image
    await asyncio.sleep(0.05)
    assert await ask(pipeline, [png(1), png(2)], **how) is kind
    encoder.gate.set()
    await asyncio.gather(first, second)
    del first, second
    await asyncio.sleep(0)
    assert num_kept() == 0
