"""Latency against offered load, and the knee.

    python -m loadtests.service.latency [--requests 300] [--requests-at-share 600] [--rounds 2] [--seconds 450]
        [--gateways 2] [--streams 2] [--out F]

ViT-B/32 with random weights, one new pair a request over REST, nothing kept. Requests arrive as a Poisson process at a
rate of their own, whether those before are answered or not, and latency counts from when each was due, so that a slow
answer delays no later arrival (no coordinated omission). Rates are shares of what 64 clients in a closed loop get; each
is offered a number of requests and not of seconds, since percentiles take a number of samples: a 99th, 300 or more.

The knee is the last rate, from the lowest up, before the first at which the median is three times that of the lowest
or more. A median says that most requests wait for others, which is what saturation is, and takes few samples; a rate
above one that failed does not count, however lucky its run was. Then follows a longer run at 70 % of the knee, whose
99th percentile over its median is printed. The same rate is then offered in turn to this service and to a second one
whose batches have a fixed cap (`batching.adaptive: false`); both stay up, and what each round found is put together.
With --gateways the cores are divided among so many gateways, each with engines of its own, so that one long batch holds
up a part of the requests only; with --streams the threads of each engine are divided among so many batches at a time.

The whole ends in about so many --seconds: on a slow machine fewer requests are offered, at a rate not fewer than its
median takes and in the longer runs than a 99th percentile takes, and what does not fit even so is left out.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.service.images import forms
from loadtests.service.load_generators import send_rest
from loadtests.service.open_loop import offer, poisson
from loadtests.service.percentiles import in_ms, needed, require
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import NOTHING_KEPT, divide, running, workplace

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
NUM_CLIENTS, NUM_CLOSED = 64, 256
KNEE_FACTOR, SHARE_OF_KNEE = 3.0, 0.7
FIXED_CAP = {"PLUMBLINE_BATCHING__ADAPTIVE": "false"}
NUM_LEAD_IN = 128
"""Requests that a service answers before it is measured: its first batches are slower."""
LEAST_AT_A_RATE = 30
LADDER_SHARE, AT_SHARE_SHARE = 0.4, 0.5
"""Of the time that is left: for the ladder of rates, and of the rest for the longer run."""


@dataclass(frozen=True)
class Load:
    """What clients saw at one offered rate."""

    offered_a_second: float
    num_answered: int
    latency: Mapping[str, float]
    """Percentiles in milliseconds, by name: p50_ms, p95_ms, and p99_ms where there were requests enough to say it."""


class Clock:
    """The time that a program has.

    Args:
        seconds: In all.
    """

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._seconds = seconds

    @property
    def passed_s(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """Until it should have ended."""
        return max(0.0, self._seconds - self.passed_s)


def affordable(wanted: int, rate: float, seconds: float, *, least: int) -> int:
    """How many requests to offer.

    Args:
        wanted: Requests, where there is time.
        rate: Of requests a second.
        seconds: That they may take.
        least: Fewer say nothing.

    Returns:
        0 where there is no time for the least.
    """
    found = min(wanted, int(rate * seconds))
    return found if found >= least else 0


def main() -> None:
    options = _options()
    clock = Clock(options.seconds)
    with workplace() as folder:
        config, _ = write_config(folder)
        layout = divide(options.gateways, options.streams)
        with running(config.read_text(encoding="utf-8"), NOTHING_KEPT | layout) as service:
            start_s = clock.passed_s
            bodies = forms(1, is_new=True)
            sending = send_rest(service.port, bodies, num_requests=NUM_CLOSED, num_clients=NUM_CLIENTS)
            window = asyncio.run(sending)
            closed = window.num_requests / window.seconds
            url = f"http://127.0.0.1:{service.port}/v1/score"
            loads = ladder(url, bodies, closed, options.requests, LADDER_SHARE * clock.left_s)
            knee = find_knee(loads)
            rate = SHARE_OF_KNEE * knee
            figures: dict[str, Any] = {
                "closed_loop_a_second": closed,
                "loads": [asdict(load) for load in loads],
                "knee_a_second": knee,
            }
            time_s = AT_SHARE_SHARE * (clock.left_s - start_s) if options.rounds else clock.left_s
            if num := affordable(options.requests_at_share, rate, time_s, least=needed(99)):
                at_share = measure(url, bodies, rate, num)
                tail = at_share.latency["p99_ms"] / at_share.latency["p50_ms"]
                figures["at_70_percent_of_the_knee"] = asdict(at_share) | {"p99_over_p50": tail}
            time_s = (clock.left_s - start_s) / 2 - NUM_LEAD_IN / rate  # each of two services
            num = affordable(options.requests_at_share, rate, time_s, least=needed(99))
            if options.rounds and num:
                with running(config.read_text(encoding="utf-8"), NOTHING_KEPT | layout | FIXED_CAP) as fixed:
                    ports = [service.port, fixed.port]
                    figures["learnt_cap"] = beside(ports, bodies, rate, num_requests=num, num_rounds=options.rounds)
    report(figures, out=options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--requests", type=int, default=300, help="at each rate; from 300 on they say a 99th percentile"
    )
    parser.add_argument("--requests-at-share", type=int, default=600, help="at 70 %% of the knee")
    parser.add_argument("--rounds", type=int, default=2, help="beside the fixed cap; 0: not at all")
    parser.add_argument("--seconds", type=float, default=450.0, help="for all of it, starting and stopping included")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1)
    add_out(parser)
    options = parser.parse_args()
    require(options.requests, 50)
    require(options.requests_at_share, 99)
    return options


def ladder(url: str, bodies: Iterator[bytes], closed: float, wanted: int, seconds: float) -> list[Load]:
    """What clients see at each share of a rate.

    Args:
        url: Of the service.
        bodies: Requests.
        closed: The rate.
        wanted: Requests at each share.
        seconds: That all may take; each gets its part of what those before have left.
    """
    clock, loads = Clock(seconds), []
    for index, share in enumerate(SHARES):
        part = (1 / share) / sum(1 / each for each in SHARES[index:])
        num = affordable(wanted, share * closed, part * clock.left_s, least=LEAST_AT_A_RATE)
        loads.append(measure(url, bodies, share * closed, num or LEAST_AT_A_RATE))
    return loads


def measure(url: str, bodies: Iterator[bytes], rate: float, num_requests: int) -> Load:
    """Offer as many requests at a mean rate a second."""
    latencies_s = asyncio.run(offer(url, bodies, itertools.islice(poisson(rate), num_requests)))
    return Load(rate, len(latencies_s), in_ms(latencies_s))


def beside(
    ports: Sequence[int], bodies: Iterator[bytes], rate: float, *, num_requests: int, num_rounds: int
) -> dict[str, float]:
    """What the learnt cap does to latency, as a share of what the fixed one has.

    Args:
        ports: Of the service with the learnt cap, and of the one with the fixed one.
        bodies: Requests.
        rate: That each is offered, in turn.
        num_requests: For each in all.
        num_rounds: That they are divided among.
    """
    urls = [f"http://127.0.0.1:{port}/v1/score" for port in ports]
    found: list[list[float]] = [[], []]
    for url in urls:
        asyncio.run(offer(url, bodies, itertools.islice(poisson(rate), NUM_LEAD_IN)))
    for number in range(num_rounds):
        for url, seen in zip(urls, found, strict=True):
            due = itertools.islice(poisson(rate, seed=number), -(-num_requests // num_rounds))
            seen.extend(asyncio.run(offer(url, bodies, due)))
    learnt, fixed = map(in_ms, found)
    shares = {f"{name.removesuffix('_ms')}_over_fixed": learnt[name] / fixed[name] for name in learnt}
    return {**shares, **{f"fixed_{name}": value for name, value in fixed.items()}}


def find_knee(loads: Sequence[Load]) -> float:
    """The last rate, in rising order, before the first whose median is three times that of the first or more."""
    bound = KNEE_FACTOR * loads[0].latency["p50_ms"]
    passing = itertools.takewhile(lambda load: load.latency["p50_ms"] < bound, loads)
    return list(passing)[-1].offered_a_second


if __name__ == "__main__":
    main()
