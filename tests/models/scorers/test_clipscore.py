from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import ConfigError, MissingTextError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoding
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore
from tests.results import succeeded

EAST, NORTH, WEST = ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0])


@pytest.fixture
def context(torch_fp32: Backend) -> BuildContext:
    return BuildContext(torch_fp32, EncoderRegistry())


@pytest.fixture
def scorer(tiny_folder: Path, context: BuildContext) -> ClipScore:
    return ClipScore.build({"checkpoint": str(tiny_folder)}, context)


def vectors(*vectors: Sequence[float]) -> list[Encoding]:
    return [np.array(vector, dtype=np.float32) for vector in vectors]


@pytest.mark.parametrize(
    ("caption", "cosine", "value"),
    [
        pytest.param(EAST, 1.0, 2.5, id="same direction"),
        pytest.param(NORTH, 0.0, 0.0, id="orthogonal"),
        pytest.param(WEST, -1.0, 0.0, id="opposite is floored"),
        pytest.param([0.6, 0.8], 0.6, 1.5, id="in between"),
        pytest.param([1.0 + 2e-7, 0.0], 1.0, 2.5, id="rounding does not leave the range"),
    ],
)
def test_clipscore_is_a_rescaled_cosine(caption: list[float], cosine: float, value: float, scorer: ClipScore) -> None:
    [score] = succeeded(scorer.score(Embedded(images=vectors(EAST), captions=vectors(caption))))
    assert score.value == pytest.approx(value, abs=1e-6)
    assert score.details == {"cosine": pytest.approx(cosine, abs=1e-6)}
    assert (scorer.info.low, scorer.info.high) == (0.0, 2.5)
    assert 0.0 <= score.value <= 2.5


def test_numbers_are_plain_ones_that_json_takes(scorer: ClipScore) -> None:
    [score] = succeeded(scorer.score(Embedded(images=vectors(EAST), captions=vectors(NORTH))))
    assert type(score.value) is float
    assert type(score.details["cosine"]) is float


def test_each_image_is_scored_against_its_own_caption(scorer: ClipScore) -> None:
    scores = succeeded(scorer.score(Embedded(images=vectors(EAST, NORTH, EAST), captions=vectors(NORTH, NORTH, EAST))))
    assert [score.value for score in scores] == [0.0, 2.5, 2.5]


def test_an_image_scores_the_same_alone_and_among_others(scorer: ClipScore) -> None:
    rng = np.random.default_rng(0)
    images, captions = rng.standard_normal((2, 50, 24)).astype(np.float32)
    together = scorer.score(Embedded(images=list(images), captions=list(captions)))
    alone = [scorer.score(Embedded(images=[i], captions=[c]))[0] for i, c in zip(images, captions, strict=True)]
    assert together == alone


@pytest.mark.parametrize("batch", [Embedded(images=vectors(EAST)), Embedded(captions=vectors(EAST))])
def test_a_batch_without_captions_or_images_is_refused(batch: Embedded, scorer: ClipScore) -> None:
    with pytest.raises(MissingTextError, match="needs an image and a text"):
        scorer.score(batch)


def test_the_text_is_scored_as_it_was_sent(scorer: ClipScore) -> None:
    assert len(scorer.text.preprocess("a cup")) == 4


def test_a_template_is_put_before_the_text(tiny_folder: Path, context: BuildContext) -> None:
    options = {"checkpoint": str(tiny_folder), "template": "A photo depicts "}
    plain = ClipScore.build({"checkpoint": str(tiny_folder)}, context)
    templated = ClipScore.build(options, context)
    assert np.array_equal(templated.text.preprocess("a cup"), plain.text.preprocess("A photo depicts a cup"))
    assert templated.image is plain.image
    assert templated.text.key != plain.text.key


def test_a_field_that_there_is_not_is_refused(context: BuildContext) -> None:
    with pytest.raises(ConfigError, match=r"not valid at scorers\.clipscore\.prefix"):
        ClipScore.build({"prefix": "A photo depicts "}, context)


def test_larger_architectures_cost_more(tiny_folder: Path, context: BuildContext) -> None:
    costs = [
        ClipScore.build(options, context).relative_cost
        for options in (
            {"checkpoint": str(tiny_folder)},
            {"arch": "ViT-B-32-quickgelu", "pretrained": "openai"},
            {"arch": "ViT-L-14-quickgelu", "pretrained": "openai"},
        )
    ]
    assert costs == sorted(costs)
    assert costs[0] < 1 < costs[1] < 100 < costs[2]


@pytest.mark.parametrize("template", ["", "A photo depicts "])
def test_a_caption_that_is_cut_is_said_to_be(tiny_folder: Path, context: BuildContext, template: str) -> None:
    scorer = ClipScore.build({"checkpoint": str(tiny_folder), "template": template}, context)
    room = 75 - len(template.split())
    texts = ["red " * room, "red " * (room + 1)]
    batch = Embedded(images=vectors(EAST, EAST), captions=vectors(EAST, EAST), texts=texts)
    scores = succeeded(scorer.score(batch))
    assert [score.details.get("truncated") for score in scores] == [None, True]
