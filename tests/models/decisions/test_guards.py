"""The statistics behind guards, against golden values; each is computed for one image by itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.gaussian_discriminant import precision_of
from plumbline_models.decisions.guards import (
    LEAST_IMAGES,
    Guard,
    alarm_line,
    anchor_mean,
    farthest,
    largest_drop,
    mahalanobis,
    max_softmax,
    positive_mass,
)

FOLDER = Path("tests/golden/guards")
NEGATIVES = json.loads((FOLDER / "neglabel.json").read_text(encoding="utf-8"))
MASTERPRINT = json.loads((FOLDER / "masterprint_scores.json").read_text(encoding="utf-8"))


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def test_the_texts_farthest_from_all_are_the_authors():
    given, expected = NEGATIVES["input"], NEGATIVES["expect"]
    candidates, positives = np.asarray(given["candidates"]), np.asarray(given["positives"])
    first = 0
    for name, num in (("noun", given["noun_count"]), ("adj", given["adj_count"])):
        kept = farthest(
            candidates[first : first + num],
            positives,
            num_kept=int(num * given["keep_fraction"]),
            percentile=given["percentile"],
        )
        assert [first + index for index in kept] == expected[f"kept_{name}_idx"]
        first += num


@pytest.mark.parametrize("scale", [10, 100])
@pytest.mark.parametrize("num_groups", [1, 3, 5])
def test_the_share_of_positives_is_the_authors(scale, num_groups):
    given, expected = NEGATIVES["input"], NEGATIVES["expect"]
    candidates, positives = np.asarray(given["candidates"]), np.asarray(given["positives"])
    negatives = candidates[[*expected["kept_noun_idx"], *expected["kept_adj_idx"]]]
    found = [
        positive_mass(list(positives @ image), list(negatives @ image), scale, num_groups=num_groups)
        for image in np.asarray(given["images"])
    ]
    theirs = expected[f"score_scale{scale}"][str(num_groups)]
    assert found == pytest.approx(theirs, rel=1e-4)  # float32 cosines of 1e-7, times a scale of 100


def test_similarities_and_the_rate_of_fooling_are_the_authors():
    given, expected = MASTERPRINT["input"], MASTERPRINT["expect"]
    texts, images = unit(np.asarray(given["text_features_raw"])), unit(np.asarray(given["image_features_raw"]))
    assert np.allclose(texts @ images.T, expected["similarity_text_by_image"], atol=1e-5)
    master = unit(np.asarray(given["fooling_vector"]))[0]
    own = [float(images[i] @ texts[label]) for i, label in enumerate(given["image_labels"])]
    fooled = [float(master @ texts[label]) > mine for mine, label in zip(own, given["image_labels"], strict=True)]
    assert np.mean(fooled) == expected["fooling_rate"]
    assert anchor_mean(master, texts.mean(axis=0)) == pytest.approx(float((texts @ master).mean()))
    assert anchor_mean(master, texts.mean(axis=0)) > max(anchor_mean(each, texts.mean(axis=0)) for each in images)


def test_a_distance_is_that_of_the_inverse_covariance():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(500, 6)) * [1, 2, 3, 4, 5, 6]
    mean, precision = known.mean(axis=0), precision_of(known - known.mean(axis=0))
    far, near = mean + 6 * np.eye(6)[0], mean + 6 * np.eye(6)[5]
    assert mahalanobis(mean, mean, precision) == 0.0
    assert mahalanobis(far, mean, precision) > 10 * mahalanobis(near, mean, precision)


def test_each_number_is_the_same_alone_in_company_and_in_any_order():
    rng = np.random.default_rng(1)
    images, texts = unit(rng.normal(size=(64, 32))), unit(rng.normal(size=(8, 32)))
    precision = precision_of(images - images.mean(axis=0))

    def all_of(encoding: np.ndarray) -> tuple[float, ...]:
        cosines = [float(each) for each in texts @ encoding]
        return (
            anchor_mean(encoding, texts.mean(axis=0)),
            mahalanobis(encoding, images.mean(axis=0), precision),
            max_softmax(cosines[:4], 100.0),
            positive_mass(cosines[:4], cosines[4:], 100.0),
        )

    alone = [all_of(image.copy()) for image in images]
    assert [all_of(image) for image in images[::-1]] == alone[::-1]


def test_the_best_of_several_texts_is_as_sure_as_the_softmax_says():
    assert max_softmax([0.3], 100.0) == 1.0
    assert max_softmax([0.3, 0.3], 100.0) == 0.5
    assert max_softmax([0.31, 0.30], 100.0) == pytest.approx(1 / (1 + np.exp(-1)))
    assert max_softmax([-9.0, 9.0], 1e6) == 1.0


def test_a_drop_is_that_of_the_worst_view():
    assert largest_drop(0.5, [0.4, 0.1, 0.6]) == pytest.approx(0.4)
    assert largest_drop(0.5, [0.6]) == pytest.approx(-0.1)


def test_a_line_flags_one_real_image_in_a_hundred_and_needs_as_many():
    assert LEAST_IMAGES == 99
    with pytest.raises(InvalidFieldError, match="at least 99"):
        alarm_line([0.0] * 98)
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(300):
        line = alarm_line(list(rng.normal(size=400)))
        rates.append(float(np.mean(rng.normal(size=2000) > line)))
    assert np.mean(rates) == pytest.approx(1 - 397 / 401, abs=3 * np.std(rates) / np.sqrt(300))


def guard_and_fresh(rng: np.random.Generator) -> tuple[Guard, np.ndarray, np.ndarray]:
    """A guard of images in a cone, fresh ones of the cone, and the texts that the guard has as anchors."""
    axis = unit(rng.normal(size=24))
    images, fresh = (unit(axis + 0.15 * rng.normal(size=(num, 24))) for num in (600, 2000))
    texts = unit(rng.normal(size=(40, 24)))
    return Guard.of(images, texts), fresh, texts


def test_a_guard_flags_few_real_images_and_those_that_are_near_all_texts_or_far_from_all_images():
    rng = np.random.default_rng(3)
    guard, fresh, texts = guard_and_fresh(rng)
    assert np.mean([guard.is_suspect(each) for each in fresh]) < 0.04  # two lines, each with 0.01
    assert guard.is_suspect(unit(texts.mean(axis=0)))
    assert guard.is_suspect(unit(rng.normal(size=24)))


def test_strangeness_is_the_share_of_real_images_that_are_nearer():
    guard, fresh, _ = guard_and_fresh(np.random.default_rng(4))
    found = [guard.strangeness(each) for each in fresh]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert guard.strangeness(-guard.mean) == 1.0
    assert guard.strangeness(guard.mean) == 0.0


@pytest.mark.parametrize(("num_images", "num_texts", "field"), [(197, 8, "images"), (198, 7, "texts")])
def test_too_few_images_or_texts_make_no_guard(num_images, num_texts, field):
    rng = np.random.default_rng(5)
    images, texts = unit(rng.normal(size=(num_images, 4))), unit(rng.normal(size=(num_texts, 4)))
    with pytest.raises(InvalidFieldError, match=f"The field {field}"):
        Guard.of(images, texts)
