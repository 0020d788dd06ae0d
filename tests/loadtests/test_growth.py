"""The growth benchmark's own arithmetic, on figures made up here."""

import pytest

from loadtests.service.growth import SLACK, Cost, hold, middle, proportional, show
from loadtests.service.ladders import Step


def cost(name: str, cpu_ms: float, *, peak_mib: float = 0.0) -> Cost:
    return Cost(name, cpu_ms, wall_ms=cpu_ms / 2, peak_mib=peak_mib)


@pytest.mark.parametrize(
    ("second_ms", "is_held"),
    [
        pytest.param(5.0, True, id="cheaper"),
        pytest.param(10.0 * SLACK, True, id="dearer by the slack"),
        pytest.param(12.5, False, id="dearer by more"),
    ],
)
def test_a_step_is_held_against_the_one_before(second_ms, is_held):
    first, second = hold([cost("1", 10.0), cost("4", second_ms)], [SLACK])
    assert first.ratio is None
    assert first.is_held
    assert second.ratio == second_ms / 10.0
    assert second.is_held is is_held


def test_costs_may_grow_in_proportion_to_sizes_and_no_further():
    steps = [Step(f"{size}", size, [], 1) for size in (3, 8, 64)]
    assert proportional(steps) == pytest.approx([SLACK * 8 / 3, SLACK * 8])


def test_rounds_count_by_their_median_and_memory_by_its_least():
    found = middle([cost("16", 9.0, peak_mib=40.0), cost("16", 5.0, peak_mib=900.0), cost("16", 6.0, peak_mib=880.0)])
    assert found == Cost("16", 6.0, wall_ms=3.0, peak_mib=40.0)


def test_the_table_says_where_a_bound_is_not_held():
    lines = show(hold([cost("1", 10.0), cost("4", 9.0), cost("16", 30.0)], [SLACK, SLACK])).splitlines()
    assert ["NOT HELD" in line for line in lines] == [False, False, False, False, True]
