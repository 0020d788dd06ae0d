"""The certificate of best-of-N, against golden values, its limits, and simulated rewards."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.best_of_n import MAX_N, certified_gain, chi2, largest_certified_n, normal_gain

GOLDEN = json.loads(Path("tests/golden/guards/chi2_best_of_n.json").read_text(encoding="utf-8"))["best_of_n"]
BOUND = "true_gain_lower_bound_r"


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"n={row['n']}")
def test_gains_and_divergences_are_those_of_the_closed_form(row):
    assert chi2(row["n"]) == pytest.approx(row["chi2"], abs=1e-12)
    assert chi2(row["n"]) == pytest.approx(row["chi2_numeric"], abs=1e-9)
    assert normal_gain(row["n"]) == pytest.approx(row["proxy_gain_normal"], abs=1e-9)
    for name, bound in row.items():
        if name.startswith(BOUND):
            assert certified_gain(row["n"], float(name.removeprefix(BOUND))) == pytest.approx(bound, abs=1e-8)


def test_one_image_is_chosen_from_nothing_and_gains_nothing():
    assert [certified_gain(1, r) for r in (0.3, 0.5, 1.0)] == [0.0, 0.0, 0.0]


def test_the_largest_n_is_the_last_whose_gain_is_certain():
    assert [largest_certified_n(r) for r in (0.1, 0.5, 0.7, 0.9)] == [1, 5, 11, 57]
    for r in (0.3, 0.5, 0.7, 0.9):
        positive = [n for n in range(2, 100) if certified_gain(n, r) > 0.0]
        assert positive == list(range(2, largest_certified_n(r) + 1))
    assert largest_certified_n(1.0) == MAX_N


@pytest.mark.parametrize("r", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("n", [2, 8, 32])
def test_the_true_gain_is_never_less(n, r):
    rng = np.random.default_rng(n)
    true, noise = rng.normal(size=(2, 4000, n))
    proxy = r * true + math.sqrt(1 - r**2) * noise
    gain = true[np.arange(4000), proxy.argmax(axis=1)].mean()
    assert gain >= certified_gain(n, r)


@pytest.mark.parametrize(("n", "r", "field"), [(0, 0.5, "n"), (MAX_N + 1, 0.5, "n"), (2, 0.0, "c"), (2, 1.1, "c")])
def test_what_is_no_number_of_images_or_correlation_is_refused(n, r, field):
    with pytest.raises(InvalidFieldError, match=f"^The field {field}"):
        certified_gain(n, r)
