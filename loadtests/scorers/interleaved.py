"""Programs of a comparison in one process, in turn, so that what the machine does meanwhile falls on all alike."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Program: TypeAlias = Callable[[int], object]
"""Does the whole work of one round, whose number it is told."""


def interleave(programs: Mapping[str, Program], *, num_rounds: int) -> dict[str, Any]:
    """Run every program once to warm up, then in turn.

    Returns:
        For each program its median and all its rounds, in CPU seconds of this process: on one thread that is what the
        clock shows on an idle machine, and on a busy one it is what the clock would have shown.
    """
    for program in programs.values():
        program(-1)
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(num_rounds):
        for name, program in programs.items():
            started = time.process_time()
            program(number)
            rounds[name].append(time.process_time() - started)
    return {
        name: {"median_cpu_s": round(statistics.median(times), 6), "rounds_cpu_s": [round(each, 6) for each in times]}
        for name, times in rounds.items()
    }


def ratios(measured: Mapping[str, Any], baseline: str) -> dict[str, float]:
    """How many times less CPU time each program takes than the baseline, by medians of the same run."""
    slow = measured[baseline]["median_cpu_s"]
    return {name: round(slow / program["median_cpu_s"], 2) for name, program in measured.items() if name != baseline}


def add_out(parser: argparse.ArgumentParser) -> None:
    """Let the caller name a file for the figures."""
    parser.add_argument("--out", type=Path, help="write the figures there as JSON too")


def report(what: str, cases: Mapping[str, Any], *, out: Path | None = None) -> None:
    """Print the figures as JSON, with the machine that they are of, and write them to `out` if it is given."""
    machine = {
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count(),
        "threads": 1,
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }
    document = json.dumps({"head": what, "machine": machine, "cases": cases}, indent=2)
    print(document)
    if out is not None:
        out.write_text(document + "\n", encoding="utf-8")


def _cpu_name() -> str:
    found = Path("/proc/cpuinfo")
    lines = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
