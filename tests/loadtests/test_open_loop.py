"""An open loop sends when requests are due, and counts their latency from then."""

import asyncio
import itertools
import time

import aiohttp
import pytest
from aiohttp import web

from loadtests.service.open_loop import offer, poisson


def test_poisson_arrivals_have_the_mean_and_the_spread_of_their_kind():
    due_s = list(itertools.islice(poisson(50.0), 20_000))
    gaps = [later - sooner for sooner, later in itertools.pairwise([0.0, *due_s])]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert min(gaps) >= 0
    assert mean == pytest.approx(1 / 50, rel=0.03)  # four standard errors of 20,000 gaps
    assert variance**0.5 == pytest.approx(mean, rel=0.05)  # as an exponential's; evenly spaced ones have none


def test_arrivals_are_the_same_in_every_run():
    assert list(itertools.islice(poisson(5.0), 9)) == list(itertools.islice(poisson(5.0), 9))


async def test_no_answer_is_waited_for_before_the_next_request_goes_out(serve):
    num_arrived, all_arrived = itertools.count(1), asyncio.Event()

    async def answer_all_at_once(_):
        if next(num_arrived) == 8:
            all_arrived.set()
        await all_arrived.wait()
        return web.Response()

    due_s = [number * 0.02 for number in range(8)]
    latencies_s = await offer(await serve(answer_all_at_once), itertools.repeat(b""), due_s)
    assert len(latencies_s) == 8
    # The last cannot be sent before it is due, and the first is answered after it: a bound that no clock can miss.
    assert max(latencies_s) >= due_s[-1] - due_s[0]


async def test_latency_counts_from_when_a_request_was_due_and_not_from_when_it_was_sent(serve):
    stall_s = 0.3

    async def answer(_):
        return web.Response()

    def bodies():
        yield b""
        time.sleep(stall_s)  # the sender itself is held up, while the rest fall due
        yield from itertools.repeat(b"")

    latencies_s = await offer(await serve(answer), bodies(), [0.0, 0.01, 0.02, 0.03])
    # Due at 0.01 to 0.03 s, none of the last three is sent before the stall is over.
    assert sum(latency >= stall_s - 0.03 for latency in latencies_s) >= 3


async def test_an_error_ends_the_run(serve):
    async def fail(_):
        return web.Response(status=503)

    with pytest.RaisesGroup(aiohttp.ClientResponseError):
        await offer(await serve(fail), itertools.repeat(b""), [0.0, 0.01])
