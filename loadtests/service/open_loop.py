"""Callers in an open loop: requests come when they are due, whether those before are answered or not."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial


def poisson(rate: float, *, seed: int = 0) -> Iterator[float]:
    """When the requests of a Poisson process are due, in seconds after its start, without end.

    Args:
        rate: Mean of requests a second.
        seed: The same one gives the same arrivals.
    """
    chance = random.Random(seed)  # noqa: S311 - arrivals, not secrets  # nosec B311
    due = 0.0
    while True:
        due += chance.expovariate(rate)
        yield due


async def offer(url: str, bodies: Iterator[bytes], due_s: Iterable[float]) -> list[float]:
    """Send a form at each due time; see `offer_all`. An answer other than 200 ends the run."""
    from loadtests.service.load_generators import open_session, send  # noqa: PLC0415 - aiohttp, for those who send

    async with open_session() as session:
        return await offer_all((partial(send, session, url, body) for body in bodies), due_s)


async def offer_all(senders: Iterator[Callable[[], Awaitable[object]]], due_s: Iterable[float]) -> list[float]:
    """Send something at each due time and wait for all answers; an error of one ends the run.

    Returns:
        The latency of each in seconds, in the order of their ends, counted from when it was due and not from when it
        was sent: what a client waits for because the machine is busy is part of it (no coordinated omission).
    """
    latencies_s: list[float] = []

    async def wait(due: float, send_one: Callable[[], Awaitable[object]]) -> None:
        await send_one()
        latencies_s.append(time.perf_counter() - due)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as sent:
        for after in due_s:
            await asyncio.sleep(max(0.0, started + after - time.perf_counter()))
            sent.create_task(wait(started + after, next(senders)))
    return latencies_s
