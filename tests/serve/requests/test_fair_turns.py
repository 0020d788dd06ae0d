"""Large requests and small ones, those that go and those that mean harm, on the threads that all requests share."""

import asyncio
import gc
import threading
import weakref

import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_models.core.protocols import Score
from plumbline_models.images.decode import DecodePolicy
from plumbline_serve.messages import EmbedRequest, EncodedImage, Item, ItemFailure, ItemScores, ScoreRequest
from plumbline_serve.scheduling.request_context import Caller
from tests.models.images.hostile_files import hostile_files

NUM_THREADS = 2
NUM_LARGE = 60


class Watch:
    """Notes what an encoder of images preprocesses, and may hold it."""

    def __init__(self, encoder) -> None:
        self._preprocess = encoder.preprocess
        self.means: list[float] = []
        self.pixels: list[weakref.ref] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        encoder.preprocess = self.preprocess

    def preprocess(self, raw):
        self.means.append(float(raw.mean()))
        self.pixels.append(weakref.ref(raw))
        self.entered.release()
        assert self.gate.wait(30)
        return self._preprocess(raw)

    async def has_entered(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.entered.acquire, timeout=30)


@pytest.fixture
def watch(scorers):
    watch = Watch(scorers["mean"].image)
    yield watch
    watch.gate.set()


@pytest.fixture
def embed_images(png):
    """Encode plain images of these greys, in one request."""

    async def embed_them(pipeline, values, *, caller=None, **options):
        images = [EncodedImage(png(value, 60)) for value in values]
        async with pipeline.session(EmbedRequest(**options), caller or Caller()) as session:
            await session.open(images)
            encodings = await session.image_encodings(pipeline.scorers["mean"].image, images)
            return [encodings[image] for image in images]

    return embed_them


async def queued(pipeline, num_units):
    while pipeline._tools.pools.decode.num_queued != num_units:  # noqa: ASYNC110 - asking is all that it takes
        await asyncio.sleep(0)


async def test_a_small_image_is_decoded_next_behind_what_has_started(open_pipeline, embed_images, watch):
    pipeline = await open_pipeline(num_decoders=1)
    large = asyncio.create_task(embed_images(pipeline, range(NUM_LARGE)))
    await watch.has_entered(1)
    small = asyncio.create_task(embed_images(pipeline, [200]))
    await queued(pipeline, NUM_LARGE)
    watch.gate.set()
    assert await small == [200.0]
    assert await large == [float(value) for value in range(NUM_LARGE)]
    assert watch.means.index(200.0) == 1


async def test_a_tenant_of_many_requests_leaves_another_its_share(open_pipeline, embed_images, watch):
    pipeline = await open_pipeline(num_decoders=1)
    crowd = [
        asyncio.create_task(embed_images(pipeline, range(first, first + 10), caller=Caller("crowd")))
        for first in range(0, 100, 10)
    ]
    await watch.has_entered(1)
    lone = asyncio.create_task(embed_images(pipeline, range(200, 210), caller=Caller("lone")))
    await queued(pipeline, 100 + 10 - 1)
    watch.gate.set()
    await asyncio.gather(lone, *crowd)
    last = max(place for place, mean in enumerate(watch.means) if mean >= 200)
    assert last <= 2 * 10 + 1


async def test_a_request_whose_caller_goes_has_nothing_more_decoded_and_leaves_no_pixels(
    open_pipeline, embed_images, watch
):
    pipeline = await open_pipeline()
    large = asyncio.create_task(embed_images(pipeline, range(NUM_LARGE)))
    await watch.has_entered(NUM_THREADS)
    gc.collect()
    gc.disable()
    try:
        large.cancel()
        await asyncio.wait([large])
        assert pipeline._tools.pools.decode.num_queued == 0
        watch.gate.set()
        del large
        assert await embed_images(pipeline, [200]) == [200.0]
        assert len(watch.means) == NUM_THREADS + 1
        await asyncio.to_thread(pipeline._tools.pools.close)
        assert [pixels() for pixels in watch.pixels] == [None] * (NUM_THREADS + 1)
        assert pipeline._tools.decoded.num_bytes == 0
    finally:
        gc.enable()


async def test_a_request_whose_time_is_up_has_nothing_more_decoded(open_pipeline, embed_images, watch):
    pipeline = await open_pipeline()
    with pytest.raises(DeadlineExceededError):
        await embed_images(pipeline, range(NUM_LARGE), timeout_ms=200)
    assert pipeline._tools.pools.decode.num_queued == 0
    watch.gate.set()
    assert await embed_images(pipeline, [200]) == [200.0]
    assert len(watch.means) <= NUM_THREADS + 1


async def test_what_is_late_is_refused_though_the_threads_are_busy_for_another(open_pipeline, embed_images, watch):
    pipeline = await open_pipeline()
    first = asyncio.create_task(embed_images(pipeline, [1, 2]))
    await watch.has_entered(NUM_THREADS)
    with pytest.raises(DeadlineExceededError):
        await embed_images(pipeline, [200], timeout_ms=30)
    watch.gate.set()
    await first
    assert 200.0 not in watch.means


async def test_the_event_loop_goes_on_between_the_scores_of_one_request(open_pipeline, png):
    pipeline, turns, at_turns = await open_pipeline(), [0], []
    score = pipeline.scorers["mean"].score

    def noted(batch):
        at_turns.append(turns[0])
        return score(batch)

    async def count():
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    items = [Item(f"{index}", EncodedImage(png(7)), None) for index in range(10)]
    request = ScoreRequest(items, scorers=["mean"], deterministic=True)
    for _ in range(30):
        await pipeline.score(request)
    pipeline.scorers["mean"].score = noted
    counting = asyncio.create_task(count())
    await pipeline.score(request)
    counting.cancel()
    assert len(set(at_turns)) == len(at_turns) == len(items)


HOSTILE = list(hostile_files())
PER_REQUEST = 4


@pytest.mark.parametrize("first", range(0, len(HOSTILE), PER_REQUEST))
async def test_hostile_images_harm_no_neighbour(open_pipeline, png, first):
    pipeline = await open_pipeline(policy=DecodePolicy(max_pixels=4 * 10**6))
    hostile = HOSTILE[first : first + PER_REQUEST]
    items = []
    for index, (_, _, data) in enumerate(hostile):
        items.append(Item(f"bad {index}", EncodedImage(data), None))
        items.append(Item(f"good {index}", EncodedImage(png(index + 1)), None))
    reply = await pipeline.score(ScoreRequest(items, scorers=["mean"]))
    for index, (_, expected, _) in enumerate(hostile):
        bad, good = reply.results[2 * index : 2 * index + 2]
        assert isinstance(good, ItemScores)
        assert good.scores["mean"] == Score(index + 1.0)
        assert (bad.error.code if isinstance(bad, ItemFailure) else 0) == (expected if isinstance(expected, str) else 0)
