"""How much stays decoded: bounded, whatever callers send, and none of it once a request is answered."""

import asyncio
import threading

import numpy as np
import pytest

from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_serve.assembly import decoded_images
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.messages import EmbedRequest, EncodedImage, Item, RawImage, ScoreRequest
from plumbline_serve.requests.admission import IMAGES_PER_CALL
from plumbline_serve.requests.images import DecodedImages, RequestImage, open_image
from plumbline_serve.requests.session import CALLS_UNDER_WAY
from plumbline_serve.scheduling.work import Work
from plumbline_serve.settings import Settings

SIDE_PX = 32
IMAGE_BYTES = SIDE_PX * SIDE_PX * 3


def pixels(value: int) -> np.ndarray:
    return np.full((SIDE_PX, SIDE_PX, 3), value, np.uint8)


def test_the_oldest_make_room_for_the_newest():
    decoded = DecodedImages(2 * IMAGE_BYTES)
    first, second = decoded.open(), decoded.open()
    first.put(0, pixels(0))
    second.put(1, pixels(1))
    first.put(2, pixels(2))
    assert first.get(0) is None
    still = [decoded.open().get(name) for name in (1, 2)]
    assert [int(each[0, 0, 0]) for each in still if each is not None] == [1, 2]
    assert decoded.num_bytes == 2 * IMAGE_BYTES


def test_an_image_larger_than_all_the_room_is_not_kept_and_drives_nothing_out():
    decoded = DecodedImages(IMAGE_BYTES)
    request = decoded.open()
    request.put("small", pixels(1))
    request.put("large", np.zeros((SIDE_PX, SIDE_PX + 1, 3), np.uint8))
    assert request.get("large") is None
    assert request.get("small") is not None


def test_a_request_that_has_ended_gives_its_room_back_and_takes_none():
    decoded = DecodedImages(2 * IMAGE_BYTES)
    ended, other = decoded.open(), decoded.open()
    ended.put("a", pixels(1))
    other.put("b", pixels(1))
    ended.close()
    ended.put("late", pixels(1))
    assert decoded.num_bytes == IMAGE_BYTES
    assert other.get("b") is not None


@pytest.mark.parametrize(
    ("decoded_bytes", "num_decoded"),
    [
        pytest.param(2**20, 5, id="room for all: each once for both scorers"),
        pytest.param(0, 10, id="no room: once for each scorer"),
    ],
)
async def test_scores_are_the_same_however_little_stays_decoded(
    open_pipeline, scorers, observer, decoded_bytes, num_decoded
):
    scorers["mean"].image = type(scorers["mean"].image)("image", key="another")
    pipeline = await open_pipeline(decoded_bytes=decoded_bytes)
    items = [Item(id=f"{value}", image=RawImage(bytes([value] * 12), 2, 2), text="abc") for value in range(5)]
    reply = await pipeline.score(ScoreRequest(items))
    assert [result.scores["mean"].value for result in reply.results] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [result.scores["product"].value for result in reply.results] == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert observer.stages.count("decode") == num_decoded


@pytest.mark.parametrize(
    ("names", "is_kept"),
    [
        pytest.param({"clipscore"}, False, id="one encoder of images"),
        pytest.param({"clipscore", "fclipscore"}, False, id="two scorers that share one"),
        pytest.param({"clipscore", "qualiclip"}, True, id="two encoders of images"),
    ],
)
def test_images_are_kept_decoded_only_where_another_encoder_could_ask_for_them(names, is_kept):
    settings = Settings(backend="fake", scorers={name: {} for name in names})
    request = decoded_images(settings, make_scorers(settings).values()).open()
    request.put("name", pixels(1))
    assert (request.get("name") is not None) is is_kept


async def test_nothing_stays_decoded_once_a_request_is_answered(open_pipeline, png):
    pipeline = await open_pipeline()
    async with pipeline.session(EmbedRequest()) as session:
        images = [EncodedImage(png(value)) for value in range(5)]
        await session.open(images)
        await session.image_encodings(pipeline.scorers["mean"].image, images)
        assert session.tools.decoded.num_bytes == 5 * 4 * 4 * 3
    assert session.tools.decoded.num_bytes == 0


def test_an_image_that_is_decoded_after_its_request_has_ended_leaves_nothing(scorers, png):
    decoded = DecodedImages(2**20)
    request = decoded.open()
    decoder = ImageDecoder(DecodePolicy(max_bytes=10_000, max_pixels=10_000))
    image = open_image(EncodedImage(png(7)), decoder, request)
    request.close()
    assert isinstance(image, RequestImage)
    assert image.preprocess(scorers["mean"].image, lambda *_: None) == 7.0
    assert decoded.num_bytes == 0


async def test_a_long_request_holds_few_preprocessed_images_while_its_encoder_is_busy(open_pipeline, scorers, observer):
    pipeline, encoder = await open_pipeline(), scorers["mean"].image
    encoder.gate = threading.Event()
    images = [RawImage(bytes([value % 251, value // 251, 0]) * 4, 2, 2) for value in range(10 * IMAGES_PER_CALL)]
    async with pipeline.session(EmbedRequest()) as session:
        await session.open(images)
        encodings = asyncio.create_task(session.image_encodings(encoder, images))
        await asyncio.to_thread(encoder.entered.wait, 30)
        behind_all = Work("nothing", 1)
        await session.tools.pools.decode.run(int, context=session.context, work=behind_all)
        assert observer.stages.count("fit") <= CALLS_UNDER_WAY * IMAGES_PER_CALL
        encoder.gate.set()
        assert len(await encodings) == len(images)
