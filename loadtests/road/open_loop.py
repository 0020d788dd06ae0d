"""Callers in an open loop: requests come when they are due, whether those before are answered or not."""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator

import aiohttp
from callers import FORM


def poisson(rate: float, *, seed: int = 0) -> Iterator[float]:
    """When the requests of a Poisson process are due, in seconds after its start, without end.

    Args:
        rate: Mean of requests a second.
        seed: The same one gives the same arrivals.
    """
    chance = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    due = 0.0
    while True:
        due += chance.expovariate(rate)
        yield due


async def offer(url: str, bodies: Iterator[bytes], due_s: Iterable[float]) -> list[float]:
    """Send a form at each due time and wait for all answers; one other than 200 ends the run.

    Returns:
        The latency of each request in seconds, in the order of their ends, counted from when it was due and not from
        when it was sent: what a caller waits for because the machine is busy is part of it (no coordinated omission).
    """
    latencies_s: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True) as session:

        async def ask(due: float, body: bytes) -> None:
            async with session.post(url, data=body, headers=FORM) as reply:
                await reply.read()
            latencies_s.append(time.perf_counter() - due)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as asked:
            for after in due_s:
                await asyncio.sleep(max(0.0, started + after - time.perf_counter()))
                asked.create_task(ask(started + after, next(bodies)))
    return latencies_s
