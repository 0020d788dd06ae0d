"""Thresholds that keep their promise: against hand-worked and golden values, and in simulated calibrations."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.conformal import Direction, Threshold, calibrate, calibrate_with_groups

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/guards/conformal.json").read_text(encoding="utf-8"))[
    "cases"
]
DIRECTIONS: tuple[Direction, ...] = ("keep_good", "reject_bad")


def of_good(scores: list[float], **named: Any) -> Threshold:
    return calibrate(scores, [True] * len(scores), direction="keep_good", **named)


def kept(scores: list[float], threshold: float, *, higher_is_better: bool) -> list[int]:
    return [i for i, each in enumerate(scores) if (each >= threshold if higher_is_better else each <= threshold)]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"n={case['n']} alpha={case['alpha']}")
def test_distances_have_the_threshold_of_the_order_statistic(case):
    expected = case["split_conformal"]
    found = of_good(case["calibration_distances"], alpha=case["alpha"], higher_is_better=False)
    assert (found.value, found.k, found.num_used) == (expected["threshold"], expected["k"], case["n"])
    if found.value is not None:
        assert kept(case["query_distances"], found.value, higher_is_better=False) == expected["kept"]
        assert found.coverage == pytest.approx(expected["exact_coverage_if_continuous"], abs=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.5, 0.75, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("confidence", [None, 0.05, 0.19, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99])
def test_as_many_as_are_said_to_be_needed_do_and_one_fewer_does_not(alpha, confidence):
    least_n = of_good([], alpha=alpha, confidence=confidence).least_n
    assert of_good([0.5] * least_n, alpha=alpha, confidence=confidence).value == 0.5
    assert of_good([0.5] * (least_n - 1), alpha=alpha, confidence=confidence).value is None


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_bad_ones_that_no_number_is_beyond_are_refused(higher_is_better):
    worst = sys.float_info.max if higher_is_better else -sys.float_info.max
    with pytest.raises(InvalidFieldError, match=r"^The field scores go as far as numbers do"):
        calibrate([worst], [False], alpha=0.5, direction="reject_bad", higher_is_better=higher_is_better)


def test_at_most_alpha_of_the_good_are_lost():
    scores = [*range(100), *range(-1000, -900)]
    found = calibrate(scores, [True] * 100 + [False] * 100, alpha=0.05, direction="keep_good")
    assert (found.value, found.k, found.num_used, found.least_n) == (4.0, 96, 100, 19)
    assert found.coverage == 96 / 101
    assert found.coverage_p05 == pytest.approx(stats.beta.ppf(0.05, 96, 5))


def test_at_most_alpha_of_the_bad_pass():
    scores = [*range(100), *range(1000, 1100)]
    labels = [False] * 100 + [True] * 100
    found = calibrate(scores, labels, alpha=0.05, direction="reject_bad")
    assert found.value is not None
    assert 95.0 < found.value <= math.nextafter(95.0, math.inf)
    low = calibrate([-each for each in scores], labels, alpha=0.05, direction="reject_bad", higher_is_better=False)
    assert low.value == -found.value


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@given(
    scores=st.lists(st.integers(-3, 3).map(float), min_size=9, max_size=40),
    alpha=st.sampled_from([0.1, 0.25, 0.5]),
)
def test_ties_only_add_to_the_coverage(direction, higher_is_better, scores, alpha):
    labels = [direction == "keep_good"] * len(scores)
    found = calibrate(scores, labels, alpha=alpha, direction=direction, higher_is_better=higher_is_better)
    assert found.value is not None
    num_kept = len(kept(scores, found.value, higher_is_better=higher_is_better))
    covered = num_kept if direction == "keep_good" else len(scores) - num_kept
    assert covered >= found.k


@pytest.mark.parametrize(("alpha", "least_n"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1), (0.15, 6)])
def test_too_few_scores_give_no_threshold_and_say_how_many_it_takes(alpha, least_n):
    few = of_good([0.0] * (least_n - 1), alpha=alpha)
    assert (few.value, few.coverage, few.coverage_p05, few.least_n) == (None, None, None, least_n)
    assert of_good([0.0] * least_n, alpha=alpha).value == 0.0


def test_shares_are_the_decimals_that_were_written():
    assert of_good([float(i) for i in range(19)], alpha=0.05).k == 19
    assert of_good([float(i) for i in range(99)], alpha=0.07).k == 93


@pytest.mark.parametrize(("alpha", "confidence"), [(0.1, 0.95), (0.05, 0.9), (0.3, 0.5)])
def test_with_confidence_that_share_of_calibrations_keeps_the_promise(alpha, confidence):
    least_n = of_good([], alpha=alpha, confidence=confidence).least_n
    assert of_good([0.0] * (least_n - 1), alpha=alpha, confidence=confidence).value is None
    found = of_good([float(i) for i in range(200)], alpha=alpha, confidence=confidence)
    assert stats.beta.ppf(1 - confidence, found.k, 201 - found.k) >= 1 - alpha
    assert stats.beta.ppf(1 - confidence, found.k - 1, 202 - found.k) < 1 - alpha
    assert of_good([0.0] * least_n, alpha=alpha, confidence=confidence).value == 0.0


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("n", "alpha"), [(20, 0.05), (100, 0.1)])
def test_calibrations_cover_what_they_promise_on_average(n, alpha, direction):
    rng = np.random.default_rng(0)
    is_good = direction == "keep_good"
    covered, found = [], None
    for _ in range(2000):
        found = calibrate(rng.normal(size=n), [is_good] * n, alpha=alpha, direction=direction)
        below = stats.norm.cdf(found.value)  # what a fresh score is below with
        covered.append(1 - below if is_good else below)
    assert found is not None
    error = stats.beta.std(found.k, n + 1 - found.k) / math.sqrt(len(covered))
    assert np.mean(covered) == pytest.approx(found.coverage, abs=3 * error)
    assert np.mean(np.asarray(covered) < found.coverage_p05) == pytest.approx(0.05, abs=0.015)


def test_each_group_has_a_threshold_of_its_own():
    scores = [float(i) for i in range(40)] + [float(i) / 100 for i in range(40)] + [5.0]
    groups = ["counting"] * 40 + ["colours"] * 40 + ["rare"]
    whole, found = calibrate_with_groups(scores, [True] * 81, groups, alpha=0.1, direction="keep_good")
    assert {name: each.value for name, each in found.items()} == {"counting": 3.0, "colours": 0.03, "rare": None}
    assert whole == of_good(scores, alpha=0.1)
    assert calibrate_with_groups(scores, [True] * 81, None, alpha=0.1, direction="keep_good") == (whole, {})


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"alpha": 0.0}, "/alpha"),
        ({"alpha": 1.0}, "/alpha"),
        ({"alpha": math.nan}, "/alpha"),
        ({"confidence": 1.0}, "/confidence"),
        ({"scores": [1.0, math.nan]}, "/scores/1"),
        ({"scores": [math.inf, 1.0]}, "/scores/0"),
        ({"labels": [True]}, "/labels"),
        ({"groups": ["a"]}, "/groups"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(wrong, pointer):
    given_right: dict[str, Any] = {"scores": [1.0, 2.0], "labels": [True, True], "groups": ["a", "b"], "alpha": 0.5}
    with pytest.raises(InvalidFieldError) as refusal:
        calibrate_with_groups(**{**given_right, **wrong}, direction="keep_good")
    facts: dict[str, Any] = refusal.value.facts
    assert facts["errors"][0]["pointer"] == pointer
