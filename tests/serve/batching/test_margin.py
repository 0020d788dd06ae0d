"""Estimates that fall short are taken for longer, as much as it takes for nearly all to be done in time."""

import math
import random

import pytest

from plumbline_serve.batching.margin import LEAST, MOST, NUM_COUNTED, START, Margin


@pytest.mark.parametrize("spread", [0.2, 0.4, 0.7])
def test_nearly_all_are_done_within_the_margin(spread):
    chance, margin = random.Random(0), Margin()  # noqa: S311 - durations, not secrets
    late = 0
    for _ in range(5000):
        took_s = 2.0 * chance.uniform(1 - spread, 1 + spread)
        late += took_s > 2.0 * margin.value
        margin.learn(2.0, took_s)
    assert 0.01 * 5000 < late < 0.05 * 5000
    assert 1.0 < margin.value < 1 + spread + 0.1


@pytest.mark.parametrize("times", [3.0, 5.0])
def test_where_all_takes_many_times_longer_it_is_learnt_from_a_few_hundred(times):
    chance, margin = random.Random(0), Margin()  # noqa: S311 - durations, not secrets
    late = []
    for _ in range(2000):
        took_s = 0.1 * chance.uniform(0.5, times)
        late.append(took_s > 0.1 * margin.value)
        margin.learn(0.1, took_s)
    assert sum(late[:300]) < 150
    assert sum(late[300:]) < 0.05 * 1700
    assert 0.8 * times < margin.value < 1.1 * times


def test_it_stays_within_bounds():
    exact, hopeless = Margin(), Margin()
    for _ in range(5000):
        exact.learn(1.0, 0.5)
        hopeless.learn(1.0, 100.0)
    assert (exact.value, hopeless.value) == (LEAST, MOST)


def test_what_nothing_was_known_of_tells_nothing():
    margin = Margin()
    margin.learn(0.0, 5.0)
    assert margin.value == START


def test_a_bad_minute_is_forgotten_once_a_few_hundred_requests_were_in_time():
    margin = Margin()
    for _ in range(100):
        margin.learn(0.1, math.inf)
    assert margin.value == MOST
    for _ in range(NUM_COUNTED):
        margin.learn(0.1, 0.1)
    assert margin.value == LEAST


def test_one_request_in_a_hundred_that_takes_for_ever_moves_nothing():
    margin = Margin()
    for number in range(2000):
        margin.learn(0.1, math.inf if number % 100 == 0 else 0.1)
    assert margin.value == LEAST
