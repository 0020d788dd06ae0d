"""Drift, against the toolkit's golden values, and on windows whose law is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.drift import (
    ADDED,
    E_LIMIT,
    check_values,
    composite,
    counted,
    e_step,
    entropy,
    mean_shift,
    psi,
    quantile_edges,
    severity,
    shift,
)

GOLDEN = json.loads(Path("tests/golden/guards/drift.json").read_text(encoding="utf-8"))
GIVEN, EXPECTED = GOLDEN["input"], GOLDEN["expect"]
THEIR_NAMES = {"low": ("none", "low")}  # they have no word for nothing


@pytest.mark.parametrize("current", ["shift", "same"])
@pytest.mark.parametrize("row", ["psi10", "psi_alt"])
def test_the_plain_index_is_the_toolkits(current, row):
    expected = EXPECTED["score"][current][row]
    reference = np.asarray(GIVEN["ref"])
    inner = np.linspace(reference.min(), reference.max(), expected["details"]["n_bins"] + 1)[1:-1].tolist()
    found = psi(counted(reference, inner), counted(GIVEN[current], inner), added=1e-8)
    assert found == pytest.approx(expected["statistic"], rel=1e-9)


def test_entropy_is_the_toolkits():
    binary = [entropy([each]) for each in GIVEN["probs_binary"]]
    assert np.mean(binary) == pytest.approx(EXPECTED["entropy_binary"]["statistic"], rel=1e-9)
    several = [entropy(each) for each in GIVEN["probs_multiclass"]]
    assert np.mean(several) == pytest.approx(EXPECTED["entropy_multiclass"]["statistic"], rel=1e-6)
    assert [entropy([0.0]), entropy([1.0]), entropy([0.5])] == pytest.approx([0.0, 0.0, 1.0])


def test_e_values_are_the_toolkits():
    e_value = 1.0
    for score, expected, is_rejected in EXPECTED["e_value"]["steps"]:
        e_value = e_step(e_value, score)
        assert e_value == pytest.approx(expected, rel=1e-9)
        assert (e_value >= E_LIMIT) == is_rejected


@pytest.mark.parametrize("config", ["default", "fraud"])
@pytest.mark.parametrize("row", EXPECTED["composite"], ids=lambda row: "+".join(row["triggered"]) or "nothing")
def test_composites_and_severities_are_the_toolkits(row, config):
    weights = EXPECTED["composite_config"][config]["weights"]
    active = ("SCORE_DISTRIBUTION", "FEATURE_DRIFT", "UNCERTAINTY", "CROSS_MODEL")
    lines = [EXPECTED["composite_config"][config][name] for name in ("warning", "alert", "critical")]
    found = composite(row["triggered"], {name: weights[name] for name in active})
    assert found == pytest.approx(row[config]["score"], abs=1e-9)
    if not row[config].get("boundary"):
        expected = row[config]["severity"]
        assert severity(found, lines) in THEIR_NAMES.get(expected, (expected,))


def test_a_score_on_a_line_has_reached_it_whatever_order_it_was_summed_in():
    weights = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    assert composite(["a", "b", "d"], weights) == composite(["d", "b", "a"], weights) == pytest.approx(0.7)
    assert severity(0.1 + 0.2) == severity(0.3) == severity(0.3 - 1e-12) == "medium"
    assert severity(0.2999) == "low"


def test_bins_hold_about_as_many_each_and_ties_share_one():
    edges = quantile_edges(np.arange(1000.0))
    assert edges == [100.0 * part for part in range(1, 10)]
    assert counted(np.arange(1000.0), edges) == [100] * 10
    tied = [0.0] * 700 + [float(i) for i in range(1, 301)]
    assert all(counted(tied, quantile_edges(tied)))
    assert counted(tied, quantile_edges(tied))[0] == 700
    assert quantile_edges([1.0] * 50) == []


def windows(rng: np.random.Generator, num: int, size: int, by: float = 0.0) -> np.ndarray:
    return rng.normal(by, 1.0, (num, size))


@pytest.mark.parametrize(("n", "m"), [(500, 500), (2000, 500), (500, 4000), (10_000, 1000)])
def test_without_drift_p_values_are_uniform(n, m):
    rng = np.random.default_rng(n + m)
    found = []
    for _ in range(500):
        reference, current = rng.normal(size=n), rng.normal(size=m)
        edges = quantile_edges(reference)
        found.append(shift(counted(reference, edges), counted(current, edges)).p_value)
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_a_quarter_of_a_standard_deviation_is_found():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(400):
        reference = rng.normal(size=10_000)
        edges = quantile_edges(reference)
        found.append(shift(counted(reference, edges), counted(rng.normal(0.25, 1.0, 1000), edges)))
    assert np.mean([each.p_value < 0.001 for each in found]) > 0.95
    assert max(each.psi for each in found) < 0.25  # the usual limit never sees it


def test_a_limit_for_the_index_cries_wolf_where_windows_are_small_and_the_p_value_does_not():
    rng = np.random.default_rng(11)
    fixed, ours = [], []
    for _ in range(400):
        reference, current = rng.normal(size=100), rng.normal(size=100)
        inner = np.linspace(reference.min(), reference.max(), 11)[1:-1].tolist()
        fixed.append(psi(counted(reference, inner), counted(current, inner), added=1e-8) >= 0.25)
        edges = quantile_edges(reference)
        ours.append(shift(counted(reference, edges), counted(current, edges)).p_value < 0.05)
    assert np.mean(fixed) > 0.3
    assert np.mean(ours) < 0.08


def test_an_empty_bin_does_not_decide():
    assert psi([50, 50, 1], [50, 50, 0], added=ADDED) < 0.02 < psi([50, 50, 1], [50, 50, 0], added=1e-8)


def test_e_values_pass_their_limit_in_one_of_twenty_runs_at_most_and_soon_where_something_drifts():
    rng = np.random.default_rng(3)
    runs = np.cumprod(1.0 + (rng.uniform(size=(2000, 500)) - 0.5), axis=1).max(axis=1)
    one = 1.0
    for score in (0.2, 0.9):
        one = e_step(one, score)
    assert one == pytest.approx(np.prod([1.0 + 0.2 - 0.5, 1.0 + 0.9 - 0.5]))
    assert np.mean(runs >= E_LIMIT) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    drifting = 1.0
    for _ in range(10):
        drifting = e_step(drifting, 0.99)
    assert drifting > E_LIMIT


def test_means_of_one_law_are_told_from_others():
    def moments(values: np.ndarray) -> tuple[float, float, int]:
        return float(values.sum()), float(np.square(values).sum()), len(values)

    rng = np.random.default_rng(5)
    same = [mean_shift(moments(rng.uniform(size=300)), moments(rng.uniform(size=900))) for _ in range(500)]
    assert stats.kstest(same, "uniform").pvalue > 1e-3
    assert mean_shift(moments(rng.uniform(size=300)), moments(rng.uniform(0.2, 1.2, 900))) < 1e-6
    assert mean_shift((3.0, 3.0, 3), (3.0, 3.0, 3)) == 1.0
    assert mean_shift((3.0, 3.0, 3), (6.0, 12.0, 3)) == 0.0


@pytest.mark.parametrize("values", [[1.0] * 99, [1.0] * 200, [*range(150), math.nan], [*range(150), math.inf]])
def test_a_window_that_nothing_can_be_compared_with_is_refused(values):
    with pytest.raises(InvalidFieldError, match=r"^The field values"):
        check_values(values)
