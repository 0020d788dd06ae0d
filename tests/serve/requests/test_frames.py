"""Videos on the request path: every frame is scored like an image, and shares what images share."""

from dataclasses import replace
from typing import Any

import pytest

from plumbline_models.core.errors import (
    ImageUndecodableError,
    MissingImageError,
    TooManyItemsError,
    UnknownImageError,
)
from plumbline_models.core.protocols import Score
from plumbline_serve.messages import EncodedImage, FilterRequest, Item, ItemFailure, ScoreRequest, Threshold
from plumbline_serve.requests.filtering import filter_items


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline()


@pytest.fixture
def video(png):
    def make(*values: int, text: str | None = "abc", **named) -> Item:
        return Item("1", None, text, frames=[EncodedImage(png(value)) for value in values], **named)

    return make


async def scored(pipeline, *items, **named) -> Any:
    reply = await pipeline.score(ScoreRequest(list(items), **named))
    return dict(reply.results[0].scores)


async def test_the_value_is_the_mean_of_the_frames_and_says_which_is_the_worst(pipeline, scorers, video):
    found = await scored(pipeline, video(10, 40, 10, 20))
    frames = {"values": [10.0, 40.0, 10.0, 20.0], "mean": 20.0, "min": 10.0, "worst": 0}
    assert found["mean"] == Score(20.0, {"frames": frames})
    assert found["product"].value == 60.0
    assert found["product"].details["frames"]["values"] == [30.0, 120.0, 30.0, 60.0]
    assert sorted(each for batch in scorers["mean"].image.batches for each in batch) == [10.0, 20.0, 40.0]


async def test_the_worst_frame_may_stand_for_all_with_what_is_said_of_it(pipeline, video):
    found = await scored(pipeline, video(30, 10, 20, pool="min"))
    assert (found["product"].value, found["product"].details["frames"]["worst"]) == (30.0, 1)
    assert (found["product"].details["image"], found["product"].details["caption"]) == (10.0, 3.0)


async def test_where_lower_is_better_the_highest_frame_is_the_worst(pipeline, scorers, video):
    scorers["mean"].info = replace(scorers["mean"].info, higher_is_better=False)
    found = await scored(pipeline, video(30, 10, pool="min"), scorers=["mean"])
    assert (found["mean"].value, found["mean"].details["frames"]["worst"]) == (30.0, 0)


async def test_frames_are_named_as_images_are_and_share_their_encodings(pipeline, scorers, png):
    table = {"a": EncodedImage(png(10)), "b": EncodedImage(png(20))}
    items = [Item("1", None, "x", frames=["a", "b", "a"]), Item("2", "b", "x")]
    found = await scored(pipeline, *items, images=table)
    assert found["mean"].details["frames"]["values"] == [10.0, 20.0, 10.0]
    assert sorted(each for batch in scorers["mean"].image.batches for each in batch) == [10.0, 20.0]


async def test_a_video_with_a_frame_that_cannot_be_read_has_no_value_and_harms_no_other(pipeline, video, png):
    broken = Item("1", None, "abc", frames=[EncodedImage(png(10)), EncodedImage(b"none")])
    reply = await pipeline.score(ScoreRequest([broken, video(10), Item("3", None, "abc", frames=["nowhere"])]))
    first, second, third = reply.results
    assert isinstance(first, ItemFailure)
    assert isinstance(first.error, ImageUndecodableError)
    assert first.error.detail.startswith("Frame 1: ")
    assert second.scores["mean"].value == 10.0
    assert isinstance(third.error, UnknownImageError)


async def test_a_filter_judges_a_video_by_its_value(pipeline, video):
    items = [video(10, 30), video(10, 10)]
    reply: Any = await filter_items(pipeline, FilterRequest([Threshold("mean", min=15.0)], items))
    assert [result.verdict for result in reply.results] == ["accept", "reject"]
    assert reply.results[0].scores["mean"].details["frames"]["worst"] == 0


async def test_frames_count_against_a_limit_of_their_own(pipeline, png):
    long = Item("1", None, None, frames=[EncodedImage(png(10))] * 103)
    await pipeline.score(ScoreRequest([long] * 9))
    with pytest.raises(TooManyItemsError, match="1030 frames"):
        await pipeline.score(ScoreRequest([long] * 10))


async def test_an_item_without_frames_or_image_lacks_an_image(pipeline):
    found = await pipeline.score(ScoreRequest([Item("1", None, "a")], scorers=["mean"]))
    assert isinstance(found.results[0].error, MissingImageError)
