"""Pictures are spoiled more and more, and what is measured on was never trained on."""

import numpy as np
import pytest

from plumbline_training.distortions import DISTORTIONS, NUM_LEVELS, Distortion, distort
from plumbline_training.measure_quality import held_out_crops, spearman
from plumbline_training.photographs import photograph
from plumbline_training.pristine import MEASURED_ON, TRAINED_ON, pristine


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_each_level_is_further_from_the_original(kind: Distortion) -> None:
    crop = photograph("chelsea.png")[60:220, 100:300]
    spoiled = [distort(crop, kind, level, np.random.default_rng(1)) for level in range(NUM_LEVELS + 1)]
    errors = [float(np.square(one.astype(float) - crop).mean()) for one in spoiled]
    assert errors[0] == 0
    assert np.array_equal(errors, np.sort(errors))
    assert len(set(errors)) == NUM_LEVELS + 1
    assert all(one.shape == crop.shape for one in spoiled)


def test_no_photograph_is_both_trained_and_measured_on() -> None:
    assert not set(TRAINED_ON) & set(MEASURED_ON)


def test_crops_to_measure_on_keep_their_own_resolution() -> None:
    crops = list(held_out_crops(2, np.random.default_rng(2)))
    assert len(crops) == 2 * len(MEASURED_ON)
    assert all(128 <= side <= 512 for crop in crops for side in crop.shape[:2])


def test_pristine_pictures_have_the_size_asked_for() -> None:
    rng = np.random.default_rng(4)
    assert {pristine(96, rng).shape for _ in range(12)} == {(96, 96, 3)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([0.9, 0.7, 0.4, 0.2], 1.0, id="falling"),
        pytest.param([0.1, 0.2, 0.3, 0.4], -1.0, id="rising"),
        pytest.param([0.5, 0.5, 0.5, 0.5], 0.0, id="blind"),
    ],
)
def test_spearman_is_one_where_scores_fall_with_the_level(values: list[float], expected: float) -> None:
    assert spearman(np.array(values)) == pytest.approx(expected)
