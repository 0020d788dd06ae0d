"""The arithmetic of the tables against values that are worked by hand, scipy's and scikit-learn's."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr
from sklearn.metrics import average_precision_score

from plumbline_serve.offline.evaluation.metrics import (
    average_precision,
    best_tied_accuracy,
    kendall,
    pair_accuracies,
    pearson,
    spearman,
    uninverted,
)


def array(*numbers: float):
    return np.array(numbers, np.float64)


@pytest.mark.parametrize(
    ("scores", "human", "accuracy", "threshold"),
    [
        pytest.param([0.1, 0.2, 0.3], [1, 2, 3], 1.0, 0.0, id="all in order"),
        pytest.param([0.3, 0.2, 0.1], [1, 2, 3], 0.0, 0.0, id="all against it: ties help nothing"),
        pytest.param([0.1, 0.2, 0.9], [1, 1, 2], 1.0, pytest.approx(0.1), id="a threshold ties what people tie"),
        pytest.param([0.5, 0.5, 0.9], [1, 1, 2], 1.0, 0.0, id="equal scores are a tie without one"),
        pytest.param([0.5, 0.5, 0.9], [1, 2, 3], 2 / 3, 0.0, id="equal scores where people see a difference"),
        pytest.param([0.1, 0.9, 0.5, 0.4], [1, 1, 1, 1], 1.0, pytest.approx(0.8), id="people tie all"),
        # gaps: 0.1 (tied), 0.2 (ordered), 0.3 (ordered); with 0.1 all three are right
        pytest.param([0.0, 0.1, 0.3], [1, 1, 2], 1.0, pytest.approx(0.1), id="the threshold stops before it harms"),
    ],
)
def test_the_threshold_for_ties_is_the_best_one(scores, human, accuracy: float, threshold: float) -> None:
    found = best_tied_accuracy(array(*scores), array(*human))
    assert found[0] == pytest.approx(accuracy)
    assert found[1] == threshold


def by_trying_all(scores, human) -> float:
    """The definition, slowly: every gap is tried as the threshold."""
    pairs = list(itertools.combinations(range(len(scores)), 2))
    best = 0.0
    for threshold in [0.0, *(abs(scores[i] - scores[j]) for i, j in pairs)]:
        right = 0
        for i, j in pairs:
            gap = 0.0 if abs(scores[i] - scores[j]) <= threshold else scores[i] - scores[j]
            right += np.sign(gap) == np.sign(human[i] - human[j])
        best = max(best, right / len(pairs))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_found_that_trying_all_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    human = rng.integers(1, 4, 24).astype(float)
    scores = np.round(human + rng.normal(scale=1.5, size=24), 1)  # some are equal
    assert best_tied_accuracy(scores, human)[0] == pytest.approx(by_trying_all(scores, human))


@pytest.mark.parametrize("variant", ["b", "c"])
def test_taus_are_those_of_scipy_and_of_hand(variant: str) -> None:
    scores, human = array(0.1, 0.4, 0.3, 0.9), array(1, 1, 2, 2)
    # 4 pairs differ for people: (0.1, 0.3), (0.1, 0.9), (0.4, 0.9) in order, (0.4, 0.3) against it
    by_hand = {"b": (3 - 1) / math.sqrt(6 * 4), "c": 2 * (3 - 1) / (16 * (2 - 1) / 2)}
    assert kendall(scores, human, variant) == pytest.approx(by_hand[variant])
    assert kendall(scores, human, variant) == kendalltau(scores, human, variant=variant).statistic
    assert math.isnan(kendall(scores, array(1, 1, 1, 1), variant))


def test_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    scores, human = rng.normal(size=30), rng.integers(1, 5, 30).astype(float)
    assert spearman(scores, human) == spearmanr(scores, human).statistic
    assert pearson(scores, human) == pearsonr(scores, human).statistic
    assert math.isnan(spearman(np.ones(3), array(1, 2, 3)))
    assert math.isnan(pearson(array(1, 2, 3), np.ones(3)))


def test_average_precision_by_hand() -> None:
    # positives at places 1 and 3: (1/1 + 2/3) / 2
    assert average_precision(array(0.9, 0.8, 0.7), np.array([True, False, True])) == pytest.approx(5 / 6)
    assert average_precision(array(0.5, 0.5), np.array([True, False])) == 0.5  # equal scores stand together
    assert math.isnan(average_precision(array(0.5), np.array([False])))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_positive = rng.random(60) < 0.4
    scores = np.round(is_positive + rng.normal(size=60), 1)
    assert average_precision(scores, is_positive) == pytest.approx(average_precision_score(is_positive, scores))


def test_the_accuracies_of_winoground() -> None:
    right = [[0.9, 0.1], [0.2, 0.8]]
    texts_only = [[0.9, 0.8], [0.95, 0.99]]  # each image prefers its caption, but the second image fits both better
    tied = [[0.5, 0.5], [0.5, 0.5]]
    found = pair_accuracies(np.array([right, texts_only, tied]))
    assert found == {"text": pytest.approx(2 / 3), "image": pytest.approx(1 / 3), "group": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    ("scores", "ranks", "expected"),
    [
        pytest.param([0.9, 0.5, 0.1], [1, 2, 3], 1.0, id="in order"),
        pytest.param([0.1, 0.5, 0.9], [1, 2, 3], 0.0, id="against it"),
        pytest.param([0.9, 0.1, 0.5], [1, 2, 3], 2 / 3, id="one pair is wrong"),
        pytest.param([0.1, 0.9], [1, 1], 1.0, id="people tie"),
        pytest.param([0.5, 0.5], [2, 1], 0.0, id="equal scores keep their order"),
    ],
)
def test_pairs_that_are_in_order(scores, ranks, expected: float) -> None:
    assert uninverted(scores, ranks) == pytest.approx(expected)
