"""The knee, and what a rate's requests say."""

import argparse
import asyncio
import itertools
from collections import Counter

import pytest
from aiohttp import web

from loadtests.service.latency import NUM_LEAD_IN, Load, beside, find_knee


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
    options = argparse.Namespace(rounds=3, requests_at_share=300)
    found = await asyncio.to_thread(beside, ports, itertools.repeat(b""), 500.0, options)
    assert asked == dict.fromkeys(ports, NUM_LEAD_IN + 300)
    shares = {f"p{percent}_over_fixed" for percent in (50, 95, 99)}
    assert set(found) == shares | {f"fixed_p{percent}_ms" for percent in (50, 95, 99)}
    assert all(value > 0 for value in found.values())
