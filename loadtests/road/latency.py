"""Latency against offered load, and the knee.

    python loadtests/road/latency.py [--seconds 20] [--out FILE]

ViT-B/32 with random weights, one new pair a request over REST, nothing kept. Requests arrive as a Poisson process at a
rate of their own, whether those before are answered or not, and latency counts from when each was due, so that a slow
answer delays no later arrival (no coordinated omission). Rates are shares of what 64 callers in a closed loop get. The
knee is the highest rate tried at which the median is under three times that of the lowest rate; then follows a longer
run at 70 % of it, whose 99th percentile over its median is printed.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from callers import FORM, ask_rest
from efficiency import write_config
from pictures import forms
from report import add_out, report
from running import NOTHING_KEPT, running

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
NUM_CALLERS, NUM_CLOSED = 64, 256
KNEE_FACTOR, SHARE_OF_KNEE = 3.0, 0.7
LONGER = 2  # times the seconds of the other runs, at 70 % of the knee


@dataclass(frozen=True)
class Load:
    """What callers saw at one offered rate."""

    offered_a_second: float
    answered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency against offered load.")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config, _ = write_config(Path(name))
        with running(config.read_text(encoding="utf-8"), NOTHING_KEPT) as service:
            bodies = forms(1, is_new=True)
            ask = ask_rest(service.port, bodies, num_requests=NUM_CLOSED, num_callers=NUM_CALLERS)
            window = asyncio.run(ask)
            closed = window.num_requests / window.seconds
            url = f"http://127.0.0.1:{service.port}/v1/score"
            loads = [asyncio.run(offer(url, bodies, share * closed, options.seconds)) for share in SHARES]
            knee = find_knee(loads)
            at_share = asyncio.run(offer(url, bodies, SHARE_OF_KNEE * knee, LONGER * options.seconds))
    figures = {
        "closed_loop_a_second": closed,
        "loads": [asdict(load) for load in loads],
        "knee_a_second": knee,
        "at_70_percent_of_the_knee": asdict(at_share) | {"p99_over_p50": at_share.p99_ms / at_share.p50_ms},
    }
    report(figures, out=options.out)


async def offer(url: str, bodies: Iterator[bytes], rate: float, seconds: float) -> Load:
    """Offer requests at a mean rate for some seconds, and wait for all answers; one other than 200 ends the run."""
    chance = random.Random(0)  # noqa: S311 - the same arrivals in every run
    latencies_ms: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True) as session:

        async def ask(due: float, body: bytes) -> None:
            async with session.post(url, data=body, headers=FORM) as reply:
                await reply.read()
            latencies_ms.append((time.perf_counter() - due) * 1000)

        due = started = time.perf_counter()
        async with asyncio.TaskGroup() as asked:
            while (due := due + chance.expovariate(rate)) < started + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                asked.create_task(ask(due, next(bodies)))
    percentiles = statistics.quantiles(latencies_ms, n=100)
    return Load(rate, len(latencies_ms), percentiles[49], percentiles[94], percentiles[98])


def find_knee(loads: list[Load]) -> float:
    """The highest rate at which the median is under three times that of the first."""
    bound = KNEE_FACTOR * loads[0].p50_ms
    return max(load.offered_a_second for load in loads if load.p50_ms < bound)


if __name__ == "__main__":
    main()
