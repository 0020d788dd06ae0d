"""The simulation of a server of batches, where its outcome is known."""

import itertools

import pytest

from loadtests.service.batch_caps import Server, gains
from loadtests.service.open_loop import poisson


def test_a_batch_takes_what_waits_and_no_more_than_the_cap():
    server = Server(fixed_s=1.0, each_s=1.0)
    arrivals_s = [0.0, 0.5, 0.6, 10.0]
    assert server.latencies_s(arrivals_s, 64) == pytest.approx([2.0, 4.5, 4.4, 2.0])
    assert server.latencies_s(arrivals_s, 1) == pytest.approx([2.0, 3.5, 5.4, 2.0])


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_one_at_a_time_waits_as_long_as_pollaczek_and_khinchin_say(load):
    server = Server(fixed_s=0.0, each_s=0.01)
    arrivals_s = list(itertools.islice(poisson(load / 0.01), 200_000))
    found = server.latencies_s(arrivals_s, 1)
    assert sum(found) / len(found) == pytest.approx(0.01 + 0.01 * load / (2 * (1 - load)), rel=0.03)


def test_the_report_has_the_rate_below_the_knee_and_no_cap_that_cannot_keep_up():
    found = gains(Server(fixed_s=0.01, each_s=0.01), 2000)
    assert f"{0.7 * found['knee']:.2f}" in found["shares"]
    assert set(found["shares"]["0.20"]["caps"]) == {"1", "2", "4", "8", "16", "32", "64"}
    assert set(found["shares"]["0.90"]["caps"]) == {"8", "16", "32", "64"}
    assert all(0 < each["least_p99_over_that_of_64"] <= 1 for each in found["shares"].values())
