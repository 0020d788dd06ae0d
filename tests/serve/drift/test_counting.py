"""Scores that a service gives are counted, with what their images are like, and nothing else is."""

from collections.abc import Callable

import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_serve.assembly import assembled
from plumbline_serve.drift.windows import whole
from plumbline_serve.messages import EncodedImage, FilterRequest, Item, RankRequest, ScoreRequest, Threshold
from plumbline_serve.settings import DriftSettings, Settings


async def test_each_score_counts_and_each_known_look_beside_it(png: Callable[..., bytes]):
    images = [EncodedImage(png(level, 64)) for level in (0, 100, 250)]
    items = [Item(str(i), image, "a red circle") for i, image in enumerate(images)]
    async with assembled(Settings(backend="fake", scorers={"clipscore": {}, "qualiclip": {}})) as assembly:
        service, windows = assembly.service, assembly.tools.windows
        await service.score(ScoreRequest([*items, Item("broken", EncodedImage(b"no image"), "a red circle")]))
        await service.score(ScoreRequest(items[:1], scorers=["clipscore"]))  # its encoding is kept, and so is its look
        await service.rank(RankRequest(images=images, texts=["a blue star"], scorer="clipscore"))
        await service.filter(FilterRequest(policy=[Threshold("qualiclip", min=-1.0)], items=items))
        assert windows is not None
        found = whole(windows.slices(), "clipscore")
        assert found.num_scores == 3 + 1 + 3
        assert found.images["brightness"].total() == 7
        assert len(found.images["brightness"]) == 3
        assert whole(windows.slices(), "qualiclip").num_scores == 6
        snapshot = assembly.instruments.snapshot()
        assert whole(snapshot.slices, "clipscore").num_scores == 7


async def test_where_nobody_wants_to_know_images_are_not_looked_at(png: Callable[..., bytes]):
    settings = Settings(backend="fake", scorers={"clipscore": {}}, drift=DriftSettings(images=False))
    async with assembled(settings) as assembly:
        await assembly.service.score(ScoreRequest([Item("1", EncodedImage(png(9)), "a red circle")]))
        assert assembly.tools.windows is not None
        found = whole(assembly.tools.windows.slices(), "clipscore")
        assert (found.num_scores, found.images) == (1, {})
        late = ScoreRequest([Item("1", EncodedImage(png(10)), "late")], timeout_ms=1e-6)
        with pytest.raises(DeadlineExceededError):
            await assembly.service.score(late)
        assert whole(assembly.tools.windows.slices(), "clipscore").num_scores == 1
