"""What a request costs, under each of Ray Serve's ways of carrying it.

    python -m loadtests.service.ray_options --out ray_options.json

Every request is the same image and caption, whose encodings are kept after the first: what is left is HAProxy or proxy,
Ray, the edge and the pipeline. Where the name of a way says `new`, every image is a new one and is encoded, by the
embedded network, which costs little: there layouts are compared. Figures are CPU milliseconds a request, summed over
every process of the service: on a busy machine they move less than rates do. Each way has a service of its own, all are
up at once (1.5 GB each: name fewer with --ways where that is too much) and take turns; medians of the rounds count.
"""

import argparse
import asyncio
import statistics
from contextlib import ExitStack
from functools import partial
from typing import Any

from loadtests.service.images import forms, messages
from loadtests.service.load_generators import send_grpc, send_rest
from loadtests.service.report import add_out, report, table
from loadtests.service.running import NOTHING_KEPT, Running, running

WIRES = ("rest", "grpc")
CONFIG = "scorers: {clipscore: {}}\n"
BASELINE = "as `plumbline serve` sets it"
SLOW = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
WAYS: dict[str, dict[str, str]] = {
    BASELINE: {},
    "Ray's defaults": SLOW,
    "HAProxy without the throughput mode": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    "the throughput mode without HAProxy": {"RAY_SERVE_ENABLE_HA_PROXY": "0"},
    "the gateway on a loop of its own": {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "1"},
    "HAProxy on two threads": {"RAY_SERVE_HAPROXY_NBTHREAD": "2"},
    "HAProxy picking at random": {"RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "random"},
    "no garbage frozen": {"RAY_SERVE_FREEZE_GC_ON_STARTUP": "0"},
    "new images": NOTHING_KEPT,
    "new images, split layout": NOTHING_KEPT | {"PLUMBLINE_REPLICAS__LAYOUT": "split"},
    "new images, split layout by actor calls": NOTHING_KEPT
    | {"PLUMBLINE_REPLICAS__LAYOUT": "split", "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What a request costs beside the networks.")
    parser.add_argument("--requests", type=int, default=1000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--items", type=int, default=1, help="a request")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    add_out(parser)
    options = parser.parse_args()
    found = _measure(options)
    report({"items": options.items, "ways": found}, out=options.out)
    costs = [[way, *(f"{by_wire[wire]['cpu_ms']:.2f}" for wire in WIRES)] for way, by_wire in found.items()]
    print(table(["CPU ms a request", *WIRES], costs))


def _measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every way's cost by wire."""
    with ExitStack() as stack:
        services = {way: stack.enter_context(running(CONFIG, WAYS[way])) for way in options.ways}
        senders = {way: _senders(service, options.items, WAYS[way]) for way, service in services.items()}
        costs: dict[tuple[str, str], list[float]] = {}
        for number in range(options.rounds + 1):  # the first warms up
            for way, by_wire in senders.items():
                for wire, send in by_wire.items():
                    before = services[way].cpu_s()
                    asyncio.run(send(num_requests=options.requests, num_clients=options.clients))
                    cost_ms = (services[way].cpu_s() - before) / options.requests * 1000
                    costs.setdefault((way, wire), []).extend([cost_ms] if number else [])
    return {
        way: {
            wire: {"cpu_ms": statistics.median(costs[way, wire]), "rounds_cpu_ms": costs[way, wire]} for wire in by_wire
        }
        for way, by_wire in senders.items()
    }


def _senders(service: Running, num_items: int, environment: dict[str, str]) -> dict[str, Any]:
    """Functions that send requests to a service, by wire."""
    is_new = NOTHING_KEPT.items() <= environment.items()
    return {
        "rest": partial(send_rest, service.port, forms(num_items, is_new=is_new)),
        "grpc": partial(send_grpc, service.grpc_port, messages(num_items, is_new=is_new)),
    }


if __name__ == "__main__":
    main()
