"""Whether decisions repeat: a program's own numbers, and counting by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.repeatability import flip_rate, pass_at_k, pass_hat_k, plug_in_pass_hat_k

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/sets/passk.json").read_text(encoding="utf-8"))["cases"]
TRIALS = [case for case in GOLDEN if "trial_scores" in case["input"]]


@pytest.mark.parametrize("case", TRIALS, ids=lambda case: case["name"])
def test_probabilities_are_those_of_the_program(case):
    scores = case["input"]["trial_scores"]
    passed = sum(score >= case["input"]["threshold"] for score in scores)
    for k, expected in case["expected"]["pass_at_k"].items():
        assert pass_at_k(len(scores), passed, int(k)) == pytest.approx(expected, rel=1e-12)
    for k, expected in case["expected"]["pass_hat_k"].items():
        assert plug_in_pass_hat_k(len(scores), passed, int(k)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "passed"), [(5, 0), (5, 3), (6, 5), (4, 4)])
def test_both_are_what_counting_all_choices_gives(n, passed):
    submissions = [True] * passed + [False] * (n - passed)
    for k in range(1, n + 1):
        choices = list(itertools.combinations(submissions, k))
        assert pass_at_k(n, passed, k) == pytest.approx(sum(map(any, choices)) / len(choices))
        assert pass_hat_k(n, passed, k) == pytest.approx(sum(map(all, choices)) / len(choices))
        assert pass_hat_k(n, passed, k) <= plug_in_pass_hat_k(n, passed, k) + 1e-12


def test_a_thing_flips_whose_submissions_differ():
    assert flip_rate([[True, True], [True, False], [False, False], [False, True]]) == 0.5


@pytest.mark.parametrize(("n", "passed", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1)])
def test_numbers_that_do_not_fit_are_refused(n, passed, k):
    with pytest.raises(InvalidFieldError):
        pass_at_k(n, passed, k)
