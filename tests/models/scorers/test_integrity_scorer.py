from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import ConfigError, InvalidFieldError, MissingImageError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.integrity import Integrity
from tests.results import succeeded


@pytest.fixture
def scorer(torch_fp32: Any) -> Integrity:
    return Integrity.build({}, BuildContext(torch_fp32, EncoderRegistry()))


def score(scorer: Integrity, *images: np.ndarray) -> list[Any]:
    scorer.image.load()
    encoded = scorer.image.encode([scorer.image.preprocess(each) for each in images])
    return succeeded(scorer.score(Embedded(images=encoded)))


def test_a_broken_image_scores_below_a_half_and_says_why(scorer: Integrity) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[40:120, 60:150] = (200, 40, 90)
    blank, random, whole = score(scorer, np.zeros((64, 64, 3), np.uint8), noise, picture)
    assert (blank.value < 0.5, random.value < 0.5, whole.value > 0.5) == (True, True, True)
    assert blank.details["reasons"] == ["blank", "near_constant"]
    assert random.details["reasons"] == ["noise"]
    assert whole.details["reasons"] == []
    assert all(0 <= each.value <= 1 and type(each.value) is float for each in (blank, random, whole))


def test_it_is_an_encoder_without_weights_that_takes_images_only(scorer: Integrity) -> None:
    assert isinstance(scorer.image, Encoder)
    assert scorer.image.origin().is_present
    assert scorer.image.info().backend == "numpy"
    with pytest.raises(InvalidFieldError, match="takes images"):
        scorer.image.preprocess("a text")
    with pytest.raises(MissingImageError, match="integrity needs an image"):
        scorer.score(Embedded())


def test_it_costs_less_than_any_other_scorer(scorer: Integrity) -> None:
    assert scorer.relative_cost == 0


def test_a_section_with_fields_is_refused(torch_fp32: Any) -> None:
    with pytest.raises(ConfigError, match=r"scorers\.integrity\.threshold"):
        Integrity.build({"threshold": 0.3}, BuildContext(torch_fp32, EncoderRegistry()))
