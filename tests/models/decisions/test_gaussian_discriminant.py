"""The few-shot classifier, against golden values, and where it must refuse or leave itself out."""

import json
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.gaussian_discriminant import (
    choose_mixing,
    class_means,
    discriminant,
    mixed_logits,
    precision_of,
)

GOLDEN = json.loads(Path("tests/golden/guards/gda.json").read_text(encoding="utf-8"))
GIVEN, EXPECTED = GOLDEN["input"], GOLDEN["expect"]
TOLERANCE = 1e-4  # theirs is float32 with a pinv; they allow 2e-3


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


ENCODINGS = unit(np.asarray(GIVEN["train_features_unnormalised"]))
PROMPTS = np.asarray(GIVEN["text_weights_rows"])
LABELS = GIVEN["train_labels"]


def test_means_precision_weights_and_logits_are_the_authors():
    found, means = discriminant(ENCODINGS, LABELS, 5), class_means(ENCODINGS, LABELS, 5)
    assert np.allclose(means, EXPECTED["mus"], atol=1e-6)
    assert np.allclose(precision_of(ENCODINGS - means[LABELS]), EXPECTED["cov_inv"], atol=TOLERANCE)
    assert np.allclose(found.weights.T, EXPECTED["W_d_by_c"], atol=TOLERANCE)
    assert np.allclose(found.bias, EXPECTED["b"], atol=TOLERANCE)
    tests = np.asarray(GIVEN["test_features"])
    logits = mixed_logits(tests @ PROMPTS.T, found.logits(tests), EXPECTED["best_alpha"])
    assert np.allclose(logits, EXPECTED["test_logits"], rtol=1e-3, atol=1e-3)
    assert (logits.argmax(axis=1) == np.argmax(EXPECTED["test_logits"], axis=1)).all()
    assert 100 * (logits.argmax(axis=1) == GIVEN["test_labels"]).mean() == EXPECTED["test_acc"]


def scene(rng: np.random.Generator, shots: int, *, noise: float = 0.5) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Three classes in 16 dimensions, whose means are no class's prompt, and noise that is large along one line."""
    means = rng.normal(size=(3, 16))
    labels = [label for label in range(3) for _ in range(shots)]
    spread = np.full(16, noise)
    spread[0] = 4.0
    return means, labels, unit(means[labels] + rng.normal(size=(len(labels), 16)) * spread)


def test_it_answers_better_than_prompts_that_say_little_and_reports_both():
    rng = np.random.default_rng(0)
    _, labels, encodings = scene(rng, 8)
    prompts = unit(rng.normal(size=(3, 16)))
    chosen = choose_mixing(encodings, labels, prompts)
    assert chosen.mixing > 0.0
    assert chosen.accuracy_cv > 0.8 > chosen.accuracy_zero_shot


def test_it_leaves_itself_out_where_prompts_know_all():
    rng = np.random.default_rng(1)
    means, labels, encodings = scene(rng, 4, noise=0.01)
    encodings = unit(means[labels] + 0.01 * rng.normal(size=(12, 16)))
    chosen = choose_mixing(encodings, labels, unit(means))
    assert (chosen.mixing, chosen.accuracy_cv, chosen.accuracy_zero_shot) == (0.0, 1.0, 1.0)


def test_two_shots_are_enough_to_choose_by():
    rng = np.random.default_rng(2)
    _, labels, encodings = scene(rng, 2)
    chosen = choose_mixing(encodings, labels, unit(rng.normal(size=(3, 16))))
    assert chosen.accuracy_cv >= chosen.accuracy_zero_shot


def test_the_order_of_images_does_not_matter():
    rng = np.random.default_rng(3)
    _, labels, encodings = scene(rng, 6)
    order = rng.permutation(len(labels))
    one, other = discriminant(encodings, labels, 3), discriminant(encodings[order], [labels[i] for i in order], 3)
    assert np.allclose(one.weights, other.weights)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 0, 1], "need 2 images each; one has 1"),
        ([0, 0, 0], "need 2 images each; one has 0"),
    ],
)
def test_one_shot_is_refused(labels, sentence):
    with pytest.raises(InvalidFieldError, match=sentence):
        discriminant(np.eye(3), labels, 2)


def test_one_class_and_images_that_are_all_the_same_are_refused():
    with pytest.raises(InvalidFieldError, match="fewer than two"):
        choose_mixing(np.eye(2), [0, 0], np.eye(2)[:1])
    with pytest.raises(InvalidFieldError, match="the same image"):
        discriminant(np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 1], 2)
