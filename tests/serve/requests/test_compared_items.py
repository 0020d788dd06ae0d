"""References, reference images and phrases of items, on the path of a request as the gateway assembles it."""

import numpy as np
import pytest

from plumbline_models.core.errors import (
    InvalidFieldError,
    MissingImageError,
    MissingTextError,
    TextTooLongError,
    UnknownImageError,
)
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage, Item, RankRequest, ScoreRequest
from plumbline_serve.settings import Settings

SCORERS = ["clipscore", "refclipscore", "phrase_clipscore", "image_similarity"]


@pytest.fixture
async def service(tmp_path):
    settings = Settings(backend="torch", precision="fp32", scorers={name: {} for name in SCORERS}, cache_dir=tmp_path)
    async with assembled(settings) as assembly:
        yield assembly.service


async def test_each_item_is_held_against_what_it_brings(service, png):
    dark, light = EncodedImage(png(10, 8)), EncodedImage(png(240, 8))
    items = [
        Item("0", "dark", "a red circle", references=["a red circle"], reference_image="dark", phrases=["a circle"]),
        Item("1", "dark", "a red circle", references=["a fox", "a red circle"], reference_image=light),
    ]
    first, second = (await service.score(ScoreRequest(items, images={"dark": dark}))).results
    assert set(first.scores) == set(SCORERS)
    assert set(second.scores) == set(SCORERS) - {"phrase_clipscore"}
    assert first.scores["image_similarity"].value == pytest.approx(1.0, abs=1e-6)
    assert second.scores["image_similarity"].value < 0.999
    for result in (first, second):
        assert result.scores["refclipscore"].details["reference_cosine"] == pytest.approx(1.0, abs=1e-6)
    cosines = [each["cosine"] for each in first.scores["phrase_clipscore"].details["phrases"]]
    expected = np.mean([first.scores["clipscore"].details["cosine"], *cosines])
    assert first.scores["phrase_clipscore"].value == pytest.approx(expected, abs=1e-7)


async def test_an_item_that_lacks_what_a_scorer_needs_says_so(service, png):
    items = [Item("0", EncodedImage(png(10, 8)), "a fox")]
    (result,) = (await service.score(ScoreRequest(items, scorers=SCORERS))).results
    assert result.scores["clipscore"].value >= 0
    assert {name: (type(e), e.detail) for name, e in result.scores.items() if name != "clipscore"} == {
        "refclipscore": (MissingTextError, "refclipscore needs references."),
        "phrase_clipscore": (MissingTextError, "phrase_clipscore needs phrases."),
        "image_similarity": (MissingImageError, "image_similarity needs a reference_image."),
    }


async def test_a_reference_image_that_cannot_be_used_concerns_the_scorer_that_reads_it(service, png):
    image = EncodedImage(png(10, 8))
    items = [Item("0", image, "a fox", reference_image=each) for each in ("nowhere", EncodedImage(b"x"), image)]
    results = (await service.score(ScoreRequest(items, scorers=["clipscore", "image_similarity"]))).results
    found = [result.scores["image_similarity"] for result in results]
    assert isinstance(found[0], UnknownImageError)
    assert getattr(found[1], "code", None) == "image_undecodable"
    assert found[2].value == pytest.approx(1.0, abs=1e-6)
    assert all(result.scores["clipscore"].value >= 0 for result in results)


async def test_references_and_phrases_are_held_to_the_limits_of_texts(service, png):
    image = EncodedImage(png(10, 8))
    items = [Item("0", image, "a", references=["x" * 5000]), Item("1", image, "a", phrases=["\ud800"])]
    results = (await service.score(ScoreRequest(items, scorers=["clipscore"]))).results
    assert [type(each.error) for each in results] == [TextTooLongError, InvalidFieldError]


async def test_a_scorer_that_needs_more_than_image_and_text_does_not_rank(service, png):
    images = [EncodedImage(png(10, 8)), EncodedImage(png(240, 8))]
    for scorer in SCORERS[1:]:
        with pytest.raises(InvalidFieldError, match=rf"{scorer} .*cannot rank"):
            await service.rank(RankRequest(images, ["a fox"], scorer=scorer))


async def test_the_list_of_scorers_says_what_each_needs(service):
    needs = {entry.id: (list(entry.needs), entry.needs_text) for entry in await service.scorers()}
    assert needs == {
        "clipscore": (["image", "text"], True),
        "refclipscore": (["image", "text", "references"], True),
        "phrase_clipscore": (["image", "text", "phrases"], True),
        "image_similarity": (["image", "reference_image"], False),
    }
