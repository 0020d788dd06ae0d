"""Schur Complement Entropy: the authors' numbers on their own features, and what we add to them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.sets.sce import sce
from plumbline_models.sets.vectors import unit_rows

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/sets/sce.json").read_text(encoding="utf-8"))["cases"]


def fourier(rows: Any, case: Any) -> Any:
    """The random Fourier features of the Gaussian kernel that the golden run drew."""
    angles = np.array(rows) @ (np.array(case["input"]["omegas_times_sigma"]) / case["input"]["sigma"])
    return np.concatenate((np.cos(angles), np.sin(angles)), axis=1) / np.sqrt(angles.shape[1])


def columns(rows: Any) -> Any:
    """Features whose covariance is the authors' cosine kernel, which is of columns and divided by their number."""
    given = np.array(rows)
    return given / np.linalg.norm(given, axis=0) * np.sqrt(len(given) / given.shape[1])


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_fourier_features_have_the_authors_scores(case):
    expected = case["expected"]["gaussian_rff_float64"]
    found = sce(fourier(case["input"]["text"], case), fourier(case["input"]["image"], case))
    assert found.image == pytest.approx(expected["image_generator_diversity"], rel=case["rtol"])
    assert found.image_share == pytest.approx(expected["trace_complement"], rel=case["rtol"], abs=1e-5)
    if "degenerate" not in case["name"]:  # the ridge of theirs, where the fit is perfect
        assert found.text == pytest.approx(expected["text_prompt_diversity"], rel=case["rtol"])


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_the_cosine_of_columns_has_the_authors_scores(case):
    expected = case["expected"]["cosine_float64"]
    found = sce(columns(case["input"]["text"]), columns(case["input"]["image"]))
    assert found.image == pytest.approx(expected["image_generator_diversity"], rel=case["rtol"])
    assert found.text == pytest.approx(expected["text_prompt_diversity"], rel=case["rtol"])
    assert found.image_share == pytest.approx(expected["trace_complement"], rel=case["rtol"])


def simulated(num_prompts: int, per_prompt: int, dim: int = 16) -> Any:
    """Images about prompts, and a generator that adds five kinds of its own, equally often."""
    rng = np.random.default_rng(3)
    texts = np.repeat(unit_rows(list(rng.normal(size=(num_prompts, dim)))), per_prompt, axis=0)
    kinds = np.eye(dim)[rng.integers(0, 5, len(texts))]
    return texts, unit_rows(list(texts + 2 * kinds))


def test_as_many_prompts_as_samples_explain_everything_and_are_not_reliable():
    texts, images = simulated(16, 1)
    found = sce(texts, images)
    assert found.image == pytest.approx(1.0, abs=1e-4)
    assert (found.corrected, found.reliable, found.samples_per_direction) == (None, False, 1.0)


def test_repeated_prompts_are_directions_once_and_the_correction_gives_back_what_the_fit_took():
    texts, images = simulated(8, 4)
    few, many = sce(texts, images), sce(*simulated(8, 400))
    assert (few.samples_per_direction, few.reliable) == (4.0, False)
    assert (many.samples_per_direction, many.reliable) == (400.0, True)
    assert few.corrected is not None
    assert many.corrected is not None
    assert few.image < few.corrected
    assert abs(few.corrected - many.image) < abs(few.image - many.image)
    assert many.corrected == pytest.approx(many.image, rel=0.01)


def test_more_dimensions_than_samples_are_the_same_by_the_other_route():
    tall = simulated(4, 5, dim=8)
    wide = [np.pad(each, ((0, 0), (0, 24))) for each in tall]
    assert sce(*wide).image == pytest.approx(sce(*tall).image, rel=1e-9)
    assert sce(*wide).text == pytest.approx(sce(*tall).text, rel=1e-9)
    assert sce(*wide).samples_per_direction == sce(*tall).samples_per_direction == 5.0
