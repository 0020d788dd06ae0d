"""Groups of the same picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline_models.core.errors import DeadlineExceededError
from plumbline_models.sets.duplicates import groups
from plumbline_models.sets.vectors import unit_rows


def turned(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane."""
    angles = np.radians(degrees)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1)


def test_near_encodings_are_one_group_by_way_of_others():
    unit = turned(0, 90, 8, 16, 180, 97)
    assert groups(unit, range(6), threshold=0.99) == [[0, 2, 3], [1, 5]]  # cos 8 = 0.9903, cos 16 = 0.961
    assert groups(unit, range(6), threshold=0.999) == []


def test_equal_content_is_a_group_whatever_the_encodings_are():
    unit = turned(0, 90, 180, 270)
    contents = ["a", "b", "a", "c"]
    assert groups(unit, contents, threshold=None) == [[0, 2]]
    assert groups(unit, contents, threshold=0.99) == [[0, 2]]
    near = turned(0, 90, 180, 181)
    assert groups(near, contents, threshold=0.99) == [[0, 2, 3]]


def test_a_threshold_of_1_takes_equal_encodings():
    unit = unit_rows(list(np.random.default_rng(0).normal(size=(3, 7)))[:2] * 2)
    assert groups(unit, range(4), threshold=1.0) == [[0, 2], [1, 3]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.5, 0.99))
def test_groups_do_not_depend_on_the_order(seed, num, threshold):
    rng = np.random.default_rng(seed)
    unit = unit_rows(list(rng.normal(size=(num, 3))))
    contents = rng.integers(0, 20, num).tolist()
    order = rng.permutation(num)
    found = groups(unit, contents, threshold=threshold)
    permuted = groups(unit[order], [contents[i] for i in order], threshold=threshold)
    assert {frozenset(each) for each in found} == {frozenset(order[each].tolist()) for each in permuted}
    assert found == sorted(found)
    members = [index for group in found for index in group]
    assert len(members) == len(set(members))


def test_work_that_nobody_waits_for_ends_between_pieces():
    def gone():
        raise DeadlineExceededError("gone")

    with pytest.raises(DeadlineExceededError):
        groups(turned(*range(300)), range(300), threshold=0.9, still_wanted=gone)
