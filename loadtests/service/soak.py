"""Memory over half an hour of load, by process.

    python -m loadtests.service.soak [--minutes 30] [--log soak.jsonl]
    python -m loadtests.service.soak --read soak.jsonl
    python -m loadtests.service.soak --faults [--minutes 30] [--out report.md]

The embedded models with all four scorers. Pairs come over REST and gRPC as a Poisson process, at nine tenths of what 64
clients in a closed loop get; one image in twenty is broken. All are new, and the caches of encodings are small, so that
they are full after a minute and what is soaked includes their forgetting. Every quarter of a minute a line with the
anonymous memory of each process (heap and stacks, which is where leaks are) goes to the log; the program can be killed
at any time and its log read later. Printed is, for the time after the first six minutes, the Theil-Sen slope with its
95 % interval (Sen, JASA 63, 1968), over all processes and for each.

With `--faults` processes are killed and stopped meanwhile, and the report is another: `fault_soak`.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import grpc
from scipy.stats import theilslopes

from loadtests.service.fault_soak import soak_with_faults
from loadtests.service.images import forms, messages
from loadtests.service.load_generators import open_session, send, send_rest
from loadtests.service.memory import held_mib
from loadtests.service.open_loop import offer_all, poisson
from loadtests.service.report import add_out, report
from loadtests.service.running import Running, exit_on_sigterm, running
from plumbline_wire.v1 import scoring_pb2_grpc

SMALL_CACHES = {f"PLUMBLINE_CACHES__{kind}_BYTES": str(2**20) for kind in ("IMAGE", "TEXT", "PAIR")}
NUM_CLIENTS, NUM_CLOSED = 64, 1024
SHARE = 0.9
SEGMENT_S, WARM_S = 15.0, 360.0
ONE_BROKEN_IN = 20
TOTAL = "total"
Send: TypeAlias = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Sample:
    """What was held at one moment, and what had been answered since the last."""

    second: float
    answered: int
    held_mib: Mapping[str, float]
    """By process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--read", type=Path, help="a log of before, instead of a run")
    parser.add_argument("--faults", action="store_true", help="kill and stop processes meanwhile")
    add_out(parser)
    options = parser.parse_args()
    if options.faults:
        exit_on_sigterm()
        text = soak_with_faults(options.minutes)
        print(text)
        if options.out is not None:
            options.out.write_text(text + "\n", encoding="utf-8")
        return
    if options.read is None:
        with options.log.open("w", encoding="utf-8") as log, running("{}", SMALL_CACHES) as service:
            asyncio.run(soak(service, options.minutes * 60, log))
    lines = (options.read or options.log).read_text(encoding="utf-8").splitlines()
    report(summarise([Sample(**json.loads(line)) for line in lines]), out=options.out)


async def soak(service: Running, seconds: float, log: TextIO) -> None:
    """Load a service for some seconds and write a line to the log after each segment."""
    closed = await send_rest(service.port, forms(1, is_new=True), num_requests=NUM_CLOSED, num_clients=NUM_CLIENTS)
    rate = SHARE * closed.num_requests / closed.seconds
    url, started = f"http://127.0.0.1:{service.port}/v1/score", time.monotonic()
    async with open_session() as session, grpc.aio.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        stub = scoring_pb2_grpc.ScoringStub(channel)
        rest = (partial(send, session, url, body) for body in _some_broken(forms(1, is_new=True)))
        by_turns = _by_turns(rest, (partial(stub.Score, message) for message in messages(1, is_new=True)))
        while (second := time.monotonic() - started) < seconds:
            answered = await offer_all(by_turns, itertools.takewhile(lambda due: due < SEGMENT_S, poisson(rate)))
            sample = {"second": second, "answered": len(answered), "held_mib": held_mib(service.pid)}
            log.write(json.dumps(sample) + "\n")
            log.flush()


def _by_turns(*sends: Iterator[Send]) -> Iterator[Send]:
    return itertools.chain.from_iterable(zip(*sends, strict=True))


def _some_broken(bodies: Iterator[bytes]) -> Iterator[bytes]:
    for number, body in enumerate(bodies):
        yield body.replace(b"\xff\xd8\xff", b"\x00\x00\x00", 1) if number % ONE_BROKEN_IN == 0 else body


def summarise(samples: Sequence[Sample]) -> dict[str, Any]:
    """Growth after the start, over all processes and by process, in MiB an hour.

    Raises:
        ValueError: Fewer than eight samples lie behind the first minutes.
    """
    warm = [sample for sample in samples if sample.second >= WARM_S]
    if len(warm) < 8:
        raise ValueError(f"{len(warm)} samples after {WARM_S:.0f} seconds are too few to tell growth from noise.")
    hours = [sample.second / 3600 for sample in warm]
    names = sorted({name for sample in warm for name in sample.held_mib})
    rows = {name: [sample.held_mib.get(name, 0.0) for sample in warm] for name in names}
    rows = {TOTAL: [sum(sample.held_mib.values()) for sample in warm], **rows}
    return {
        "minutes": (samples[-1].second - samples[0].second) / 60,
        "answered": sum(sample.answered for sample in samples),
        "growth": {name: _growth(held, hours) for name, held in rows.items()},
    }


def _growth(held_mib: Sequence[float], hours: Sequence[float]) -> dict[str, float]:
    slope, _, low, high = theilslopes(held_mib, hours, alpha=0.95)
    quarter = max(1, len(held_mib) // 4)
    return {
        "first_mib": sum(held_mib[:quarter]) / quarter,
        "last_mib": sum(held_mib[-quarter:]) / quarter,
        "mib_an_hour": float(slope),
        "low": float(low),
        "high": float(high),
    }


if __name__ == "__main__":
    main()
