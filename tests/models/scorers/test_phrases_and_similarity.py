"""Means of cosines over phrases, and cosines of two images."""

from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.errors import MissingImageError, MissingTextError
from plumbline_models.core.protocols import BuildContext, Embedded
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.image_similarity import ImageSimilarity
from plumbline_models.scorers.phrase_clipscore import PhraseClipScore
from tests.results import succeeded

EAST, NORTH, WEST, SKEW = (np.array(each, np.float32) for each in ([1, 0], [0, 1], [-1, 0], [0.6, 0.8]))


@pytest.fixture
def context(torch_fp32) -> BuildContext:
    return BuildContext(torch_fp32, EncoderRegistry())


@pytest.fixture
def phrases(tiny_folder: Path, context: BuildContext) -> PhraseClipScore:
    return PhraseClipScore.build({"checkpoint": str(tiny_folder)}, context)


@pytest.fixture
def similarity(tiny_folder: Path, context: BuildContext) -> ImageSimilarity:
    return ImageSimilarity.build({"checkpoint": str(tiny_folder)}, context)


def test_the_caption_weighs_as_much_as_each_phrase(phrases: PhraseClipScore) -> None:
    batch = Embedded(
        images=[EAST, EAST],
        captions=[SKEW, WEST],
        texts=["a", "b"],
        phrases=[[EAST, NORTH], [WEST]],
        phrase_texts=[["x", "y"], ["z"]],
    )
    first, second = succeeded(phrases.score(batch))
    assert first.value == pytest.approx((0.6 + 1 + 0) / 3, abs=1e-6)
    assert first.details["cosine"] == pytest.approx(0.6, abs=1e-6)
    assert first.details["phrases"] == [{"text": "x", "cosine": 1.0}, {"text": "y", "cosine": 0.0}]
    assert (second.value, (phrases.info.low, phrases.info.high)) == (-1.0, (-1.0, 1.0))


@pytest.mark.parametrize(("caption", "phrase"), [("red", "red " * 80), ("red " * 80, "red")])
def test_a_text_that_is_cut_is_said_to_be(phrases: PhraseClipScore, caption: str, phrase: str) -> None:
    batch = Embedded([EAST], [EAST], texts=[caption], phrases=[[EAST]], phrase_texts=[[phrase]])
    assert succeeded(phrases.score(batch))[0].details["truncated"] is True


def test_images_are_compared_with_their_own_references(similarity: ImageSimilarity) -> None:
    batch = Embedded(images=[EAST, NORTH, SKEW], reference_images=[WEST, NORTH, EAST])
    assert [score.value for score in succeeded(similarity.score(batch))] == pytest.approx([-1.0, 1.0, 0.6], abs=1e-6)
    assert similarity.text is None


def test_the_encoder_of_images_is_shared(phrases: PhraseClipScore, similarity: ImageSimilarity) -> None:
    assert phrases.image is similarity.image


def test_a_batch_that_lacks_something_is_refused(phrases: PhraseClipScore, similarity: ImageSimilarity) -> None:
    with pytest.raises(MissingTextError, match="needs phrases"):
        phrases.score(Embedded(images=[EAST], captions=[EAST]))
    with pytest.raises(MissingImageError, match="a reference_image"):
        similarity.score(Embedded(images=[EAST]))
