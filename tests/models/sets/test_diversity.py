"""The Vendi score and the mean cosine: the authors' numbers, and what holds of every set."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline_models.sets.diversity import eigenvalues, mean_pairwise, order_name, vendi
from plumbline_models.sets.vectors import unit_rows

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/sets/vendi.json").read_text(encoding="utf-8"))["cases"]
OF_VECTORS = [case for case in GOLDEN if "X" in case["input"]]
OF_KERNELS = [case for case in GOLDEN if "K" in case["input"]]
RTOL = 1e-6  # the golden file's own: its two routes differ by as much


def rows_of(kernel: Any) -> Any:
    """Vectors whose products are the kernel: it is what a set enters by."""
    values, vectors = np.linalg.eigh(np.array(kernel))
    return vectors * np.sqrt(np.maximum(values, 0.0))


@pytest.mark.parametrize("case", OF_VECTORS, ids=lambda case: case["name"])
def test_vectors_have_the_authors_score_at_each_order(case):
    unit, expected = unit_rows(case["input"]["X"]), case["expected"]
    assert vendi(eigenvalues(unit)) == pytest.approx(expected["score_dual_normalized"], rel=RTOL)
    for name, value in expected.get("score_K_cosine_by_q", {}).items():
        assert vendi(eigenvalues(unit), float(name)) == pytest.approx(value, rel=RTOL)
    if "score_K_cosine_weighted_q1" in expected:
        weighted = vendi(eigenvalues(unit, case["input"]["p"]))
        assert weighted == pytest.approx(expected["score_K_cosine_weighted_q1"], rel=RTOL)


@pytest.mark.parametrize("case", OF_KERNELS, ids=lambda case: case["name"])
def test_a_kernel_has_the_authors_score(case):
    unit = unit_rows(list(rows_of(case["input"]["K"])))
    assert vendi(eigenvalues(unit)) == pytest.approx(case["expected"]["score_K"], rel=RTOL)


@pytest.mark.parametrize("case", [c for c in OF_VECTORS if "intdiv_K_q1" in c["expected"]], ids=lambda c: c["name"])
def test_the_mean_cosine_is_that_of_the_authors_internal_diversity_without_the_diagonal(case):
    unit = unit_rows(case["input"]["X"])
    num, of_all = len(unit), 1 - case["expected"]["intdiv_K_q1"]
    assert mean_pairwise(unit) == pytest.approx((of_all * num - 1) / (num - 1), rel=RTOL)


def test_a_single_encoding_is_one_thing_and_has_no_pair():
    unit = unit_rows([[0.0, 2.0]])
    assert (vendi(eigenvalues(unit)), mean_pairwise(unit)) == (1.0, None)


def test_a_set_without_spread_has_a_centred_score_of_1():
    unit = unit_rows([[1.0, 2.0, 3.0]] * 5)
    assert vendi(eigenvalues(unit, is_centred=True)) == pytest.approx(1.0, abs=1e-9)
    apart = unit_rows(np.eye(4).tolist())
    assert vendi(eigenvalues(apart, is_centred=True)) == pytest.approx(3.0)  # one direction less: the mean


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(0.5, 1000.0) | st.just(math.inf), min_size=2, max_size=4),
)
def test_a_score_is_between_1_and_n_and_falls_as_the_order_grows(num, dim, seed, orders):
    unit = unit_rows(list(np.random.default_rng(seed).normal(size=(num, dim))))
    spectrum = eigenvalues(unit)
    scores = [vendi(spectrum, order) for order in sorted(orders)]
    assert all(1 - 1e-9 <= score <= num * (1 + 1e-9) for score in scores)
    assert all(a >= b * (1 - 1e-9) for a, b in pairwise(scores))
    permuted = vendi(eigenvalues(unit[::-1]))
    assert permuted == pytest.approx(vendi(spectrum), rel=1e-9)


def test_weights_of_nearly_nothing_take_an_encoding_out():
    unit = unit_rows(np.eye(3).tolist())
    assert vendi(eigenvalues(unit, [1.0, 1.0, 1e-12])) == pytest.approx(2.0, abs=1e-9)
    assert vendi(eigenvalues(unit, [1e300, 1e300, 1e300])) == pytest.approx(3.0)


def test_orders_are_called_as_callers_write_them():
    assert [order_name(each) for each in (1.0, 2.0, 0.5, math.inf)] == ["1", "2", "0.5", "inf"]
