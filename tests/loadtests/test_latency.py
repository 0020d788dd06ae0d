"""The knee, and what a rate's requests say."""

import asyncio
import itertools
from collections import Counter

import pytest
from aiohttp import web

from loadtests.service.latency import LEAST_AT_A_RATE, NUM_LEAD_IN, SHARES, Load, affordable, beside, find_knee, ladder


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


async def test_both_caps_are_offered_the_same_in_turn(routed):
    asked: Counter[int] = Counter()

    async def answer(request: web.Request) -> web.Response:
        asked[int(request.host.rpartition(":")[2])] += 1
        return web.Response()

    ports = [int((await routed("/v1/score", answer)).split(":")[2].split("/")[0]) for _ in range(2)]
    found = await asyncio.to_thread(beside, ports, itertools.repeat(b""), 500.0, num_requests=300, num_rounds=3)
    assert asked == dict.fromkeys(ports, NUM_LEAD_IN + 300)
    shares = {f"p{percent}_over_fixed" for percent in (50, 95, 99)}
    assert set(found) == shares | {f"fixed_p{percent}_ms" for percent in (50, 95, 99)}
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize(
    ("rate", "seconds", "num"),
    [
        pytest.param(100.0, 60.0, 600, id="all, where there is time"),
        pytest.param(10.0, 45.0, 450, id="fewer on a slow machine"),
        pytest.param(10.0, 30.0, 300, id="no fewer than say something"),
        pytest.param(10.0, 29.0, 0, id="none, where there is no time for those"),
    ],
)
def test_no_more_requests_are_offered_than_there_is_time_for(rate, seconds, num):
    assert affordable(600, rate, seconds, least=300) == num


async def test_without_time_each_rate_is_offered_as_little_as_says_a_median(routed):
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    url = f"{await routed('/v1/score', answer)}/v1/score"
    loads = await asyncio.to_thread(ladder, url, itertools.repeat(b""), 500.0, 300, 0.0)
    assert [load.num_answered for load in loads] == [LEAST_AT_A_RATE] * len(SHARES)
    assert [load.offered_a_second for load in loads] == [share * 500.0 for share in SHARES]
    assert all(load.latency["p50_ms"] > 0 for load in loads)
