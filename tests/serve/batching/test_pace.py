"""What batches have taken tells how long waiting for one more input pays."""

import math
from collections.abc import Sequence

import pytest

from plumbline_serve.batching.pace import Pace


def paced(batches: Sequence[tuple[float, float]]) -> Pace:
    pace = Pace()
    for cost, seconds in batches:
        pace.learn(cost, seconds)
    return pace


@pytest.mark.parametrize(
    ("fixed_s", "each_s"),
    [
        pytest.param(0.005, 0.001, id="launching costs"),
        pytest.param(0.0, 0.020, id="a large tower on a CPU"),
        pytest.param(0.030, 0.0, id="only launching costs"),
    ],
)
def test_the_time_that_every_batch_takes_is_told_from_that_of_its_inputs(fixed_s, each_s):
    pace = paced([(cost, fixed_s + each_s * cost) for cost in (1, 8, 3, 5, 2)])
    assert pace.fixed_s == pytest.approx(fixed_s, abs=1e-9)


@pytest.mark.parametrize("batches", [pytest.param([], id="none yet"), pytest.param([(4.0, 0.1)] * 9, id="all alike")])
def test_batches_that_tell_nothing_forbid_no_wait(batches):
    assert math.isinf(paced(batches).fixed_s)


def test_batches_that_get_faster_as_they_grow_never_make_a_wait_longer_than_a_batch():
    assert paced([(1.0, 0.04), (8.0, 0.01)]).fixed_s <= 0.04


def test_what_an_encoder_did_long_ago_is_forgotten():
    slow = [(cost, 1.0 + 0.001 * cost) for cost in (1, 4)] * 5
    fast = [(cost, 0.001 + 0.001 * cost) for cost in (1, 4)] * 100
    assert paced(slow + fast).fixed_s == pytest.approx(0.001, abs=1e-3)


def test_the_slowest_of_late_says_what_a_batch_may_take_and_loading_until_then():
    assert Pace(load_s=40.0).slowest_s(8.0) == 320.0
    assert paced([(2.0, 60.0)]).slowest_s(16.0) == pytest.approx(480.0)
    assert paced([(2.0, 60.0)] + [(2.0, 0.02)] * 200).slowest_s(16.0) == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("fixed_s", "each_s", "cost"),
    [
        pytest.param(0.0, 0.020, 8.0, id="nothing is gained"),
        pytest.param(0.012, 0.036, 8.0, id="little is gained"),
        pytest.param(0.005, 0.005, 16.0, id="something is gained"),
        pytest.param(0.030, 0.0, 64.0, id="all is gained"),
    ],
)
def test_batches_are_as_large_as_it_takes_to_do_nearly_as_much_a_second(fixed_s, each_s, cost):
    pace = paced([(size, fixed_s + each_s * size) for size in (1, 8, 3, 5, 2)])
    assert pace.batch_cost(64.0) == cost


def test_sizes_are_tried_until_their_times_are_known():
    pace = Pace()
    tried = []
    for _ in range(4):
        tried.append(pace.batch_cost(64.0))
        pace.learn(1.0, 0.05)
    assert tried == [8.0, 16.0, 32.0, 64.0]


def test_what_was_learnt_of_sizes_stays_while_batches_are_alike_and_larger_ones_are_looked_at():
    pace = paced([(size, 0.012 + 0.036 * size) for size in (1, 8, 3, 5, 2)] + [(8.0, 0.3)] * 200)
    assert pace.fixed_s == pytest.approx(0.012, abs=1e-3)
    assert pace.batch_cost(64.0) == 8.0
    assert pace.batch_cost(64.0, looks=True) == 8.0
    for _ in range(15):
        pace.learn(8.0, 0.3)
    assert pace.batch_cost(64.0, looks=True) == 16.0
