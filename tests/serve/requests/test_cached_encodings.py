"""What was scored before is not decoded, tokenised or encoded again, and scores the same."""

import asyncio
import base64
import threading

import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_serve.messages import Base64Image, EmbedRequest, EncodedImage, Item, ItemFailure, RawImage, ScoreRequest
from plumbline_serve.requests.embedding import embed

KEPT = {"image": 2**20, "text": 2**20, "pair": 2**20}


def one_item(image, text="abc", **further) -> ScoreRequest:
    return ScoreRequest([Item(id="1", image=image, text=text)], **further)


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline(**KEPT)


async def entered(encoder) -> None:
    assert await asyncio.to_thread(encoder.entered.wait, 30)


async def test_a_request_that_comes_again_is_answered_from_what_was_kept(pipeline, scorers, png, observer):
    first = await pipeline.score(one_item(EncodedImage(png(10))))
    num_decoded = observer.stages.count("decode")
    again = await pipeline.score(one_item(EncodedImage(png(10))))
    assert again.results == first.results
    product = scorers["product"]
    assert [len(encoder.batches) for encoder in (product.image, product.text, product.pair)] == [1, 1, 1]
    assert observer.stages.count("decode") == num_decoded
    assert {kind: observer.lookups[kind, "hit"] for kind in KEPT} == {"image": 1, "text": 1, "pair": 1}


async def test_a_known_image_meets_a_new_text(pipeline, scorers, png):
    await pipeline.score(one_item(EncodedImage(png(10)), "a"))
    reply = await pipeline.score(one_item(EncodedImage(png(10)), "bb"))
    assert reply.results[0].scores["product"].value == 20.0
    assert scorers["product"].image.batches == [[10.0]]
    assert scorers["product"].pair.batches == [[10.0], [20.0]]


async def test_an_image_is_known_by_its_bytes_however_they_came(pipeline, scorers, png):
    await pipeline.score(one_item(EncodedImage(png(10))))
    await pipeline.score(one_item(Base64Image(base64.b64encode(png(10)).decode())))
    assert scorers["mean"].image.batches == [[10.0]]


async def test_raw_pixels_of_another_shape_are_another_image(pipeline, scorers):
    pixels = bytes(range(24))
    await pipeline.score(one_item(RawImage(pixels, 2, 4)))
    await pipeline.score(one_item(RawImage(pixels, 4, 2)))
    await pipeline.score(one_item(RawImage(pixels, 3, 2, channels=4)))
    assert len(scorers["mean"].image.batches) == 3


async def test_what_embed_made_serves_score(pipeline, scorers, png):
    await embed(pipeline, EmbedRequest(images=[EncodedImage(png(10))]))
    await pipeline.score(one_item(EncodedImage(png(10))))
    assert scorers["mean"].image.batches == [[10.0]]


async def test_an_image_that_cannot_be_decoded_is_tried_again(pipeline, observer):
    for _ in range(2):
        reply = await pipeline.score(one_item(EncodedImage(b"no image")))
        assert isinstance(reply.results[0], ItemFailure)
    assert observer.lookups["image", "hit"] == 0


async def test_nothing_is_kept_where_no_bytes_are_given_for_it(open_pipeline, scorers, png):
    pipeline = await open_pipeline(image=0, text=0, pair=0)
    for _ in range(2):
        await pipeline.score(one_item(EncodedImage(png(10))))
    assert scorers["mean"].image.batches == [[10.0], [10.0]]


async def test_requests_for_one_image_at_the_same_time_encode_it_once(pipeline, scorers, png):
    encoder = scorers["mean"].image
    encoder.gate = threading.Event()
    calls = [asyncio.create_task(pipeline.score(one_item(EncodedImage(png(10))))) for _ in range(8)]
    await entered(encoder)
    encoder.gate.set()
    replies = await asyncio.gather(*calls)
    assert {reply.results[0].scores["mean"].value for reply in replies} == {10.0}
    assert encoder.batches == [[10.0]]


async def test_a_caller_whose_time_is_up_leaves_the_others_their_work(pipeline, scorers, png):
    encoder = scorers["mean"].image
    encoder.gate = threading.Event()
    patient = asyncio.create_task(pipeline.score(one_item(EncodedImage(png(10)), scorers=["mean"])))
    await entered(encoder)
    with pytest.raises(DeadlineExceededError):
        await pipeline.score(one_item(EncodedImage(png(10)), scorers=["mean"], timeout_ms=20))
    encoder.gate.set()
    assert (await patient).results[0].scores["mean"].value == 10.0
    assert encoder.batches == [[10.0]]
