"""Groups of a set: the program's own numbers, and where we do not follow it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.audit import counts_of, intervals, official_counts, skews, spread
from plumbline_models.sets.zero_shot import guesses

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/sets/bias_distribution.json").read_text(encoding="utf-8"))[
    "cases"
]
LABELLED = [case for case in GOLDEN if "labels" in case["input"]]
SKEW: dict[str, Any] = json.loads(Path("tests/golden/guards/skew.json").read_text(encoding="utf-8"))
ROUNDED = 5e-5  # the program rounds these to four places


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case["name"])
def test_the_groups_that_were_seen_have_the_programs_numbers(case):
    given, expected = case["input"], case["expected"]
    counts = official_counts(given["labels"])
    groups = list(counts)
    first, second = (groups.index(name) if name in groups else -1 for name in (given["group_a"], given["group_b"]))
    pair = first, second
    assert {name: n / sum(counts.values()) for name, n in counts.items()} == pytest.approx(
        expected["representation_parity"]
    )
    plain, whole = spread([*counts.values()], pair), spread([*counts.values()], pair, given["cas"])
    assert plain.parity_gap == pytest.approx(expected["parity_difference"], rel=1e-9)
    assert plain.bias_amplification == pytest.approx(expected["bias_amplification"], rel=1e-9)
    assert plain.entropy_bits == pytest.approx(expected["shannon_entropy_bits"], rel=1e-9)
    assert plain.entropy == pytest.approx(expected["normalised_entropy"], rel=1e-9)
    assert plain.kl_nats == pytest.approx(expected["kl_from_uniform_nats"], rel=1e-9)
    assert plain.composite == pytest.approx(expected["composite_without_cas"], abs=ROUNDED)
    assert whole.composite == pytest.approx(expected["composite_with_cas"], abs=ROUNDED)
    members = [groups.index(label) for label in given["labels"]]
    found = intervals(members, len(groups), pair, num_resamples=200)["parity_gap"]
    assert list(found) == pytest.approx(expected["bootstrap95_parity_difference_200_seed42"], abs=ROUNDED)


def test_a_set_of_one_group_is_as_uneven_as_can_be_among_those_declared():
    found = spread(counts_of(["female"] * 15, ["female", "male"]), None)
    assert (found.parity_gap, found.bias_amplification, found.entropy, found.composite) == (1.0, 1.0, 0.0, 1.0)
    assert found.kl_nats == pytest.approx(math.log(2))
    assert skews([15, 0]) == [pytest.approx(math.log(2)), None]
    assert (found.composite_documented, spread([1, 1], None, 0.5).composite_documented) == (None, 0.5 / 3)


def test_who_has_no_label_is_in_no_group_and_a_label_of_no_group_is_refused():
    assert counts_of(["a", None, "b", "a", None], ["a", "b", "c"]) == [2, 1, 0]
    with pytest.raises(InvalidFieldError) as caught:
        counts_of(["a", "d"], ["a", "b"])
    assert caught.value.facts["errors"] == [
        {"pointer": "/labels/1", "detail": "must be one of the declared groups, or null"}
    ]


@pytest.mark.parametrize("k", [5, 10, 20])
def test_skews_of_the_first_are_those_of_the_paper_and_absent_groups_are_named(k):
    groups = np.array(SKEW["input"]["groups"])
    first = groups[np.argsort(-np.array(SKEW["input"]["scores"]), kind="stable")[:k]]
    counts = np.bincount(first, minlength=3).tolist()
    found = skews(counts, np.bincount(groups, minlength=3).tolist())
    assert [each for each in found if each is not None] == pytest.approx(
        SKEW["expect"][str(k)]["skew_present_groups"], rel=1e-5
    )
    assert [each is None for each in found] == [n == 0 for n in counts]


def test_intervals_hold_the_value_and_narrow_with_more_members():
    few, many = (intervals([0, 0, 0, 1, 1, -1] * n, 2, None) for n in (5, 100))
    gap = spread([3, 2], None).parity_gap
    for each in (few, many):
        assert each["parity_gap"][0] <= gap <= each["parity_gap"][1]
    assert np.diff(many["parity_gap"])[0] < np.diff(few["parity_gap"])[0] / 2


def test_a_guess_needs_a_lead():
    prompts = np.eye(2)
    angles = np.radians([0.0, 44.9, 45.0, 90.0])
    found = guesses(np.stack((np.cos(angles), np.sin(angles)), axis=1), prompts, ["x", "y"], margin=0.2)
    assert [each.label for each in found] == ["x", None, None, "y"]
    assert [each.confidence for each in found] == pytest.approx([1.0, 0.561, 0.5, 1.0], abs=1e-2)
    with pytest.raises(InvalidFieldError):
        guesses(np.eye(3), prompts, ["x", "y"])
