"""More work than time: what is served in time, and how fast the rest is refused.

    python -m loadtests.service.overload [--seconds 20] [--services vit embedded] [--quick] [--out F]

Two services over REST, nothing kept, every image and text new: clipscore on ViT-B/32 with random weights, and the
embedded four. The capacity is what clients in a closed loop get, with 1 and with 32 items a request. Then requests
arrive as a Poisson process at 0.7, 1.5, 2 and 4 times of it, each with a deadline of 0.5, 2 or 30 s, whether those
before are answered or not; load generator and service share the machine, so that what a refusal costs counts. The
capacity is measured again after each run, since machines that are shared give now more, now less: a run is held against
the mean of the two around it.

Goodput is the items that were answered before their deadline, within the run's seconds, over what the capacity would
have answered in them. The seconds begin after a lead-in, when as much is under way as at their end. Latencies count
from when a request was due. A refusal's time counts from when it was sent. What is still under way at the end is cut
off.

`fairness`: one caller sends single items one after the other, alone, and then beside another that keeps four requests
of 32 items under way.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from loadtests.service import raw_posts
from loadtests.service.images import forms
from loadtests.service.load_generators import FORM, Window, repeat, send
from loadtests.service.open_loop import poisson
from loadtests.service.percentiles import in_ms
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import NOTHING_KEPT, running, workplace

TIMES, DEADLINES_S, SIZES = (0.7, 1.5, 2.0, 4.0), (0.5, 2.0, 30.0), (1, 32)
CLIENTS, CAPACITY_REQUESTS = {1: 32, 32: 4}, {1: 384, 32: 16}
"""Of the closed loop, by items a request: full batches, and no wait that would be refused; and what they send."""
PATH = "/v1/score"
SERVICES = ("vit", "embedded")
LEAD_IN_S = 4.0
SETTLE_S = 0.5
"""After a run, until the service has heard of all whose connections were cut off."""
TIMEOUT_HEADER = "x-request-timeout-seconds"
NUM_SINGLE, NUM_BULK = 60, 4


@dataclass(frozen=True)
class Plan:
    """What is run with each size of requests."""

    seconds: float
    times: tuple[float, ...]
    """Of the capacity."""
    deadlines_s: tuple[float, ...]


@dataclass
class Answers:
    """What became of the requests of a run."""

    statuses: Counter[int] = field(default_factory=Counter)
    served_s: list[float] = field(default_factory=list)
    """Latency of what was answered with scores, in time or not, from when it was due."""
    refused_s: list[float] = field(default_factory=list)
    """How long refusals took, from when the request was sent."""
    num_in_time: int = 0
    num_lost: int = 0
    """Connections that ended without an answer."""

    def figures(self) -> Mapping[str, Any]:
        """For the report."""
        return {
            "statuses": {str(status): num for status, num in sorted(self.statuses.items())},
            "lost": self.num_lost,
            "served": in_ms(self.served_s),
            "refused": in_ms(self.refused_s),
        }

    def add(self, status: int, *, due_s: float, sent_s: float, deadline_s: float) -> None:
        """A request has been answered, now."""
        now = time.perf_counter()
        self.statuses[status] += 1
        if status == HTTPStatus.OK:
            self.served_s.append(now - due_s)
            self.num_in_time += now - due_s <= deadline_s
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            self.refused_s.append(now - sent_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES)
    parser.add_argument("--quick", action="store_true", help="one deadline and two rates, a few seconds each")
    add_out(parser)
    options = parser.parse_args()
    plan = Plan(8.0, (2.0, 4.0), (2.0,)) if options.quick else Plan(options.seconds, TIMES, DEADLINES_S)
    figures: dict[str, Any] = {}
    for name in options.services:
        with workplace() as folder:
            config = write_config(folder)[0].read_text(encoding="utf-8") if name == "vit" else "{}"
            with running(config, NOTHING_KEPT) as service:
                by_size = {str(size): measure(service.port, size, plan) for size in SIZES}
                beside = asyncio.run(fairness(f"http://127.0.0.1:{service.port}{PATH}"))
                figures[name] = by_size | {"fairness": beside}
    report({"services": figures}, out=options.out)


def measure(port: int, size: int, plan: Plan) -> dict[str, Any]:
    """The capacity for requests of a size, and what is left of it at each load and deadline."""
    bodies = forms(size, is_new=True)
    capacity_of(port, bodies, size, num_requests=CLIENTS[size])  # warms up
    capacities = [capacity_of(port, bodies, size)]
    runs: dict[str, dict[str, Any]] = {}
    for deadline_s in plan.deadlines_s:
        for factor in plan.times:
            offering = offer(port, bodies, factor * capacities[-1], deadline_s=deadline_s, seconds=plan.seconds)
            answers = raw_posts.run(offering)
            capacities.append(capacity_of(port, bodies, size))
            around = statistics.mean(capacities[-2:])
            runs.setdefault(f"{deadline_s:g}s", {})[f"{factor:g}x"] = {
                "goodput": answers.num_in_time / plan.seconds / around,
                "capacity_items_a_second": around * size,
                **answers.figures(),
            }
    return {"capacity_items_a_second": statistics.median(capacities) * size, "deadlines": runs}


def capacity_of(port: int, bodies: Iterator[bytes], size: int, *, num_requests: int = 0) -> float:
    """Requests a second that clients in a closed loop get.

    Raises:
        RuntimeError: One was not answered with scores.
    """
    clients = CLIENTS[size]

    async def measure_it() -> Window:
        async with raw_posts.Poster(port, PATH, FORM) as poster:

            async def send_one() -> None:
                if (status := await poster.post(next(bodies))) != HTTPStatus.OK:
                    raise RuntimeError(f"A request was answered with {status}.")

            return await repeat(send_one, num_requests=num_requests or CAPACITY_REQUESTS[size], num_clients=clients)

    window = raw_posts.run(measure_it())
    return window.num_requests / window.seconds


async def offer(port: int, bodies: Iterator[bytes], rate: float, *, deadline_s: float, seconds: float) -> Answers:
    """Send a form at each arrival of a Poisson process, count what is answered after the lead-in, cut off the rest."""
    answers, headers = Answers(), FORM | {TIMEOUT_HEADER: f"{deadline_s:g}"}
    lasts_s = LEAD_IN_S + seconds
    under_way: set[asyncio.Task[None]] = set()
    async with raw_posts.Poster(port, PATH, headers) as poster:

        async def ask(body: bytes, due_s: float) -> None:
            sent_s = time.perf_counter()
            try:
                status = await poster.post(body)
            except OSError:
                answers.num_lost += 1
                return
            if time.perf_counter() - started >= LEAD_IN_S:
                answers.add(status, due_s=due_s, sent_s=sent_s, deadline_s=deadline_s)

        started = time.perf_counter()
        for after in itertools.takewhile(lambda due: due < lasts_s, poisson(rate)):
            body = next(bodies)
            await asyncio.sleep(max(0.0, started + after - time.perf_counter()))
            task = asyncio.create_task(ask(body, started + after))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.sleep(max(0.0, started + lasts_s - time.perf_counter()))
        left = list(under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(SETTLE_S)
    return answers


async def fairness(url: str) -> dict[str, Any]:
    """What a caller of single items gets alone, and beside one with large requests."""
    single, bulk = forms(1, is_new=True), forms(32, is_new=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True) as session:

        async def send_one() -> None:
            await send(session, url, next(single))

        async def send_bulk() -> None:
            while True:
                await send(session, url, next(bulk))

        alone = await repeat(send_one, num_requests=NUM_SINGLE, num_clients=1)
        others = [asyncio.create_task(send_bulk()) for _ in range(NUM_BULK)]
        try:
            await asyncio.sleep(1.0)
            beside = await repeat(send_one, num_requests=NUM_SINGLE, num_clients=1)
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
    return {"alone": in_ms(alone.latencies_s), "beside": in_ms(beside.latencies_s)}


if __name__ == "__main__":
    main()
