"""The knee, and what a rate's requests say."""

import pytest

from loadtests.service.latency import Load, find_knee


def loads(*medians_ms: float) -> list[Load]:
    return [Load(10.0 * (index + 1), 120, {"p50_ms": median}) for index, median in enumerate(medians_ms)]


@pytest.mark.parametrize(
    ("medians_ms", "knee"),
    [
        pytest.param((100, 120, 200, 310), 30.0, id="the last that passes"),
        pytest.param((100, 110, 120, 130), 40.0, id="none fails"),
        pytest.param((100, 320, 290, 110), 10.0, id="one above a failing rate does not count"),
        pytest.param((100, 300, 100), 10.0, id="three times is too much"),
        pytest.param((100,), 10.0, id="a rate alone"),
    ],
)
def test_the_knee_is_the_last_rate_before_the_first_that_fails(medians_ms, knee):
    assert find_knee(loads(*medians_ms)) == knee
