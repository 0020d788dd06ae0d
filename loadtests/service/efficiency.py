"""How much of the engines' own speed reaches callers, over REST and gRPC.

    python -m loadtests.service.efficiency --items 1 --callers 64
    python -m loadtests.service.efficiency --items 32 --callers 4
    python -m loadtests.service.efficiency --grid [--minutes 6]

The same random ViT-B/32 runs in this process, on inputs that are prepared already, and in a service, whose callers
send JPEG files and captions in a closed loop; no two pictures or captions are equal. Sides take turns, so that what the
machine does meanwhile falls on all alike. Two ratios are printed of each wire to the engines: of items a second, and of
CPU time an item (all processes of the service), which is what the first would be if nothing ever waited. Medians of the
rounds count.

The grid is 1, 8, 32 and 64 items a request by 1, 16, 64 and 256 callers, in short rounds. Cells with few items in
flight come first; those that the service would refuse, and those for which the minutes no longer suffice, are left out,
and it is said why.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from loadtests.service.callers import ask_grpc, ask_rest
from loadtests.service.cells import GRID, Cell, why_refused, why_too_long
from loadtests.service.engines import Engines
from loadtests.service.pictures import forms, messages
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report, table
from loadtests.service.running import NOTHING_KEPT, Running, running, workplace
from plumbline_serve.assembly import make_scorers
from plumbline_serve.settings import Settings, load_settings

ROUNDS, ROUND_ITEMS = 5, 256
GRID_ROUNDS, GRID_ROUND_ITEMS = 3, 64
HEAD = ("items", "callers", "REST, rate", "REST, CPU", "gRPC, rate", "gRPC, CPU")


def main() -> None:
    options = _options()
    with workplace() as folder:
        config, _ = write_config(folder)
        settings = load_settings(config)
        engines = Engines(make_scorers(settings)["clipscore"])
        with running(config.read_text(encoding="utf-8"), NOTHING_KEPT) as service:
            sides = Sides(engines, service, num_rounds=options.rounds, round_items=options.round_items)
            sides.warm_up(Cell(options.items, options.callers))
            if options.grid:
                figures = measure_grid(sides, settings, seconds=options.minutes * 60)
            else:
                figures = sides.measure(Cell(options.items, options.callers))
    report(figures, out=options.out)
    print(table(HEAD, [_row(figure) for figure in figures.get("cells", [figures])]))
    for cell in figures.get("left_out", []):
        print(f"Left out: {cell['items']} by {cell['callers']}: {cell['why']}.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1, help="a request")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--grid", action="store_true", help="instead of one number of items and callers")
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


class Sides:
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
        sides = {name: summarise([stage_seconds[name] for stage_seconds in rounds]) for name in rounds[0]}
        return {"items": cell.num_items, "callers": cell.num_callers, "sides": sides, "ratios": ratios(sides)}

    def seconds(self, cell: Cell, rate: float) -> float:
        """What a cell takes at least, where all sides are as fast as the engines."""
        wires_items = 2 * cell.num_requests(self._round_items) * cell.num_items
        return self._num_rounds * (self._round_items + wires_items) / rate

    def _wires(self, cell: Cell) -> Mapping[str, Any]:
        return {
            "rest": partial(ask_rest, self._service.port, forms(cell.num_items, is_new=True)),
            "grpc": partial(ask_grpc, self._service.grpc_port, messages(cell.num_items, is_new=True)),
        }

    def _round(self, cell: Cell, wires: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Seconds of the clock and of CPU an item, by side."""
        started, cpu_s = time.perf_counter(), time.process_time()
        self._engines.run(self._round_items)
        took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
        found = {"engines": (took_s / self._round_items, cpu_s / self._round_items)}
        num_requests = cell.num_requests(self._round_items)
        for wire, ask in wires.items():
            cpu_s = self._service.cpu_s()
            window = asyncio.run(ask(num_requests=num_requests, num_callers=cell.num_callers))
            num_items = num_requests * cell.num_items
            found[wire] = window.seconds / num_items, (self._service.cpu_s() - cpu_s) / num_items
        return found


def measure_grid(sides: Sides, settings: Settings, *, seconds: float) -> dict[str, Any]:
    """Cell by cell, until the seconds are over."""
    until, rate = time.monotonic() + seconds, None
    cells: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for cell in sorted(GRID, key=lambda cell: cell.num_in_flight):
        why = why_refused(cell, settings)
        if why is None and rate is not None:
            why = why_too_long(cell, takes_s=sides.seconds(cell, rate), left_s=until - time.monotonic())
        if why is not None:
            left_out.append({"items": cell.num_items, "callers": cell.num_callers, "why": why})
            continue
        cells.append(sides.measure(cell))
        rate = cells[-1]["sides"]["engines"]["items_a_second"]
    return {"cells": sorted(cells, key=lambda each: (each["items"], each["callers"])), "left_out": left_out}


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


def ratios(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Each wire over the engines and gRPC over REST: by items a second, and by CPU time an item; above 1 is faster."""
    compared = {"rest": ("rest", "engines"), "grpc": ("grpc", "engines"), "grpc_over_rest": ("grpc", "rest")}
    return {
        name: {
            "rate": sides[one]["items_a_second"] / sides[other]["items_a_second"],
            "cpu": sides[other]["cpu_ms"] / sides[one]["cpu_ms"],
        }
        for name, (one, other) in compared.items()
    }


def _row(cell: Mapping[str, Any]) -> list[str]:
    found = [f"{cell['ratios'][wire][measure]:.2f}" for wire in ("rest", "grpc") for measure in ("rate", "cpu")]
    return [str(cell["items"]), str(cell["callers"]), *found]


if __name__ == "__main__":
    main()
