"""How much of the engines' own speed reaches clients, over REST and gRPC.

    python -m loadtests.service.efficiency --items 1 --clients 64
    python -m loadtests.service.efficiency --items 32 --clients 4
    python -m loadtests.service.efficiency --grid [--minutes 6]

The same random ViT-B/32 runs in this process, on inputs that are prepared already, and in a service, whose clients
send JPEG files and captions in a closed loop; no two images or captions are equal. They take turns, so that what the
machine does meanwhile falls on all alike. Two ratios are printed of each wire to the engines: of items a second, and of
CPU time an item (all processes of the service), which is what the first would be if nothing ever waited. Medians of the
rounds count.

The grid is 1, 8, 32 and 64 items a request by 1, 16, 64 and 256 clients, in short rounds. Cells with few items in
flight come first; those that the service would refuse, and those for which the minutes no longer suffice, are left out,
and it is said why.
"""

import argparse
import asyncio
import itertools
import math
import statistics
import time
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from loadtests.service.images import captions, draw_images, forms, messages
from loadtests.service.load_generators import send_grpc, send_rest
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report, table
from loadtests.service.running import NOTHING_KEPT, Running, running, workplace
from plumbline_models.core.protocols import Scorer
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.settings import Settings, load_settings

ROUNDS, ROUND_ITEMS = 5, 256
GRID_ROUNDS, GRID_ROUND_ITEMS = 3, 64
NUM_IN_HAND = 64  # prepared inputs that the engines run again and again
HEAD = ("items", "clients", "REST, rate", "REST, CPU", "gRPC, rate", "gRPC, CPU")


@dataclass(frozen=True, order=True)
class Cell:
    """A closed loop of clients whose requests hold a number of items each."""

    num_items: int
    num_clients: int

    @property
    def num_in_flight(self) -> int:
        """Items that are asked about at any moment."""
        return self.num_items * self.num_clients

    def num_requests(self, least_items: int) -> int:
        """Of a round: one per client or more, and that many items or more."""
        return max(-(-least_items // self.num_items), self.num_clients)


GRID = [Cell(num_items, num_clients) for num_items in (1, 8, 32, 64) for num_clients in (1, 16, 64, 256)]


def why_refused(cell: Cell, settings: Settings) -> str | None:
    """Which of the service's bounds a cell's requests would exceed; None: none."""
    if cell.num_items > settings.limits.max_items:
        return f"a request may hold {settings.limits.max_items} items (limits.max_items)"
    if cell.num_in_flight > settings.batching.max_queued_items:
        return (
            f"{cell.num_in_flight} items in flight, of which {settings.batching.max_queued_items} may wait "
            "(batching.max_queued_items): the service would answer 429"
        )
    return None


def why_too_long(cell: Cell, *, takes_s: float, left_s: float) -> str | None:
    """Whether a cell takes longer than is left; None: it fits."""
    if takes_s > left_s:
        return f"{cell.num_in_flight} items in flight take {takes_s:.0f} s or more, and {max(left_s, 0):.0f} s are left"
    return None


class Engines:
    """A scorer's two encoders in this process, in batches as large as they take."""

    def __init__(self, scorer: Scorer) -> None:
        self._image, self._text = (encoder for encoder in (scorer.image, scorer.text) if encoder is not None)
        self._image.load()
        self._text.load()
        self._streams = ThreadPoolExecutor(self._image.info().num_streams)
        [hand] = itertools.islice(draw_images(NUM_IN_HAND, is_new=True), 1)
        self._pixels = [self._image.preprocess(decode(data, DecodePolicy())) for data in hand.values()]
        self._ids = [self._text.preprocess(caption) for caption in itertools.islice(captions(), NUM_IN_HAND)]

    def run(self, num_items: int) -> None:
        """Encode as many images, and as many captions in batches of one length, all streams equally busy."""
        num_streams = self._image.info().num_streams
        num_turns = math.ceil(num_items / int(self._image.max_batch_cost) / num_streams)
        size = math.ceil(num_items / (num_turns * num_streams))
        starts = range(0, num_items, size)
        list(self._streams.map(self._encode, starts, (min(start + size, num_items) for start in starts)))

    def _encode(self, start: int, stop: int) -> None:
        chosen = [number % NUM_IN_HAND for number in range(start, stop)]
        self._image.encode([self._pixels[number] for number in chosen])
        buckets: dict[Hashable, list[Any]] = {}
        for number in chosen:
            buckets.setdefault(self._text.bucket(self._ids[number]), []).append(self._ids[number])
        for bucket in buckets.values():
            self._text.encode(bucket)


def main() -> None:
    options = _options()
    with workplace() as folder:
        config, _ = write_config(folder)
        settings = load_settings(config)
        engines = Engines(make_scorers(settings)["clipscore"])
        with running(config.read_text(encoding="utf-8"), NOTHING_KEPT) as service:
            comparison = Comparison(engines, service, num_rounds=options.rounds, round_items=options.round_items)
            comparison.warm_up(Cell(options.items, options.clients))
            if options.grid:
                figures = measure_grid(comparison, settings, seconds=options.minutes * 60)
            else:
                figures = comparison.measure(Cell(options.items, options.clients))
    report(figures, out=options.out)
    print(table(HEAD, [_row(figure) for figure in figures.get("cells", [figures])]))
    for cell in figures.get("left_out", []):
        print(f"Left out: {cell['items']} by {cell['clients']}: {cell['why']}.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1, help="a request")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--grid", action="store_true", help="instead of one number of items and clients")
    parser.add_argument("--minutes", type=float, default=6.0, help="for the grid, once the service is up")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}, of the grid {GRID_ROUNDS}")
    parser.add_argument(
        "--round-items", type=int, help=f"a round has these or more; default: {ROUND_ITEMS}, grid {GRID_ROUND_ITEMS}"
    )
    add_out(parser)
    options = parser.parse_args()
    options.rounds = options.rounds or (GRID_ROUNDS if options.grid else ROUNDS)
    options.round_items = options.round_items or (GRID_ROUND_ITEMS if options.grid else ROUND_ITEMS)
    return options


class Comparison:
    """The engines and the two wires of a service, which take turns."""

    def __init__(self, engines: Engines, service: Running, *, num_rounds: int, round_items: int) -> None:
        self._engines, self._service = engines, service
        self._num_rounds, self._round_items = num_rounds, round_items

    def warm_up(self, cell: Cell) -> None:
        """A round of every side that does not count."""
        self._round(cell, self._wires(cell))

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Medians of the rounds, and the ratios of both wires."""
        wires = self._wires(cell)
        rounds = [self._round(cell, wires) for _ in range(self._num_rounds)]
        measured = {name: summarise([stage_seconds[name] for stage_seconds in rounds]) for name in rounds[0]}
        return {"items": cell.num_items, "clients": cell.num_clients, "measured": measured, "ratios": ratios(measured)}

    def seconds(self, cell: Cell, rate: float) -> float:
        """What a cell takes at least, where the service is as fast as the engines."""
        wires_items = 2 * cell.num_requests(self._round_items) * cell.num_items
        return self._num_rounds * (self._round_items + wires_items) / rate

    def _wires(self, cell: Cell) -> Mapping[str, Any]:
        return {
            "rest": partial(send_rest, self._service.port, forms(cell.num_items, is_new=True)),
            "grpc": partial(send_grpc, self._service.grpc_port, messages(cell.num_items, is_new=True)),
        }

    def _round(self, cell: Cell, wires: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Seconds of the clock and of CPU an item, by side."""
        started, cpu_s = time.perf_counter(), time.process_time()
        self._engines.run(self._round_items)
        took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
        found = {"engines": (took_s / self._round_items, cpu_s / self._round_items)}
        num_requests = cell.num_requests(self._round_items)
        for wire, send in wires.items():
            cpu_s = self._service.cpu_s()
            window = asyncio.run(send(num_requests=num_requests, num_clients=cell.num_clients))
            num_items = num_requests * cell.num_items
            found[wire] = window.seconds / num_items, (self._service.cpu_s() - cpu_s) / num_items
        return found


def measure_grid(comparison: Comparison, settings: Settings, *, seconds: float) -> dict[str, Any]:
    """Cell by cell, until the seconds are over."""
    until, rate = time.monotonic() + seconds, None
    cells: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for cell in sorted(GRID, key=lambda cell: cell.num_in_flight):
        why = why_refused(cell, settings)
        if why is None and rate is not None:
            why = why_too_long(cell, takes_s=comparison.seconds(cell, rate), left_s=until - time.monotonic())
        if why is not None:
            left_out.append({"items": cell.num_items, "clients": cell.num_clients, "why": why})
            continue
        cells.append(comparison.measure(cell))
        rate = cells[-1]["measured"]["engines"]["items_a_second"]
    return {"cells": sorted(cells, key=lambda each: (each["items"], each["clients"])), "left_out": left_out}


def summarise(rounds: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians of rounds, each seconds of the clock and of CPU an item."""
    rates = [1 / seconds for seconds, _ in rounds]
    costs = [cpu_s * 1000 for _, cpu_s in rounds]
    return {
        "items_a_second": statistics.median(rates),
        "cpu_ms": statistics.median(costs),
        "rounds_items_a_second": rates,
        "rounds_cpu_ms": costs,
    }


def ratios(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Each wire over the engines and gRPC over REST: by items a second, and by CPU time an item; above 1 is faster."""
    compared = {"rest": ("rest", "engines"), "grpc": ("grpc", "engines"), "grpc_over_rest": ("grpc", "rest")}
    return {
        name: {
            "rate": measured[one]["items_a_second"] / measured[other]["items_a_second"],
            "cpu": measured[other]["cpu_ms"] / measured[one]["cpu_ms"],
        }
        for name, (one, other) in compared.items()
    }


def _row(cell: Mapping[str, Any]) -> list[str]:
    found = [f"{cell['ratios'][wire][measure]:.2f}" for wire in ("rest", "grpc") for measure in ("rate", "cpu")]
    return [str(cell["items"]), str(cell["clients"]), *found]


if __name__ == "__main__":
    main()
