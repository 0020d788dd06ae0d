"""Frechet distance and MMD against torch-fidelity's values, and what holds of every pair of sets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_models.sets.distances import frechet, frechet_floor, mmd_polynomial, mmd_rbf
from plumbline_models.sets.vectors import unit_rows

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/sets/distribution.json").read_text(encoding="utf-8"))[
    "cases"
]
PAIRS = [case for case in GOLDEN if "a" in case["input"]]
RTOL = 1e-6  # the golden file's own


@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case["name"])
def test_distances_are_those_of_torch_fidelity(case):
    a, b = np.array(case["input"]["a"]), np.array(case["input"]["b"])
    num = min(len(a), len(b))
    expected, sigma = case["expected"], case["input"]["rbf_sigma"]
    assert frechet(a, b) == pytest.approx(expected["frechet_distance"], rel=RTOL)
    polynomial = mmd_polynomial(a[:num], b[:num])
    assert polynomial == pytest.approx(expected[f"mmd2_unbiased_poly_first_{num}"], rel=RTOL)
    assert mmd_rbf(a[:num], b[:num], sigma) == pytest.approx(expected[f"mmd2_unbiased_rbf_first_{num}"], rel=RTOL)


def sets(num_a: int, num_b: int, dim: int = 6, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    return unit_rows(list(rng.normal(size=(num_a, dim)))), unit_rows(list(rng.normal(shift, size=(num_b, dim))))


def test_a_set_has_no_distance_to_itself_and_the_order_of_both_is_the_same():
    a, b = sets(30, 20, shift=0.5)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-12)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-12)
    assert mmd_rbf(a, b) == pytest.approx(mmd_rbf(b, a), rel=1e-9)


def test_the_unbiased_discrepancy_is_as_defined_for_sets_of_two_sizes():
    a, b = sets(5, 3)
    kernel = lambda x, y: (x @ y / 6 + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert mmd_polynomial(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_pieces_add_up_where_a_set_is_longer_than_one():
    a, b = sets(300, 270, shift=0.3)
    squares = ((a[:, None] - b[None]) ** 2).sum(-1)
    own = [((s[:, None] - s[None]) ** 2).sum(-1) for s in (a, b)]
    inside = [(np.exp(-2 * d).sum() - len(d)) / (len(d) * (len(d) - 1)) for d in own]
    assert mmd_rbf(a, b, 0.5) == pytest.approx(sum(inside) - 2 * np.exp(-2 * squares).mean(), rel=1e-9)


def test_few_encodings_of_one_law_have_a_distance_of_about_the_floor():
    a, b = sets(12, 12)
    floor = frechet_floor(a, b)
    assert 0.1 < floor < frechet(a, b) < 2 * floor
    apart = sets(12, 12, shift=3.0)
    assert frechet(*apart) > 3 * frechet_floor(*apart)
    assert frechet_floor(*sets(200, 200)) < floor / 5  # more members


def test_work_that_nobody_waits_for_ends_between_pieces():
    def gone():
        raise DeadlineExceededError("gone")

    a, b = sets(4, 4)
    for distance in (frechet, mmd_polynomial, mmd_rbf):
        with pytest.raises(DeadlineExceededError):
            distance(a, b, still_wanted=gone)
