"""How long starting takes, and what a gateway holds then, beside another checkout of Plumbline.

    git worktree add /tmp/before 5e0c23c
    python -m loadtests.service.start --beside /tmp/before [--rounds 3] [--out start.json]

Both run on the embedded networks, in turn, the order changing from round to round. Cold: the engine cache is empty, but
the packages are in the memory of the system, as after an installation. Warm: the cache is that of the start before.
A gateway's memory is its resident set when the service says that it is ready.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import psutil

from loadtests.service.faults import GATEWAY, living
from loadtests.service.report import table
from loadtests.service.running import exit_on_sigterm, running

ROOT = Path(__file__).parents[2]
SOURCES = ("serve", "models", "clients")
IMAGE = ROOT / "serve/plumbline_serve/demo/gallery/green_star.png"
HEAD = ("what", "this", "beside", "ratio", "held to")
AIMS: Mapping[str, float] = {
    "cold start, s": 0.35,
    "warm start, s": 0.6,
    "gateway after a cold start, MiB": 0.6,
    "plumbline score, warm, CPU s": 0.5,
    "plumbline --help, CPU s": 0.3,
}
Figures: TypeAlias = dict[str, float]


def main() -> None:
    """Measure, print the table, and write the figures where --out says."""
    options = _options()
    exit_on_sigterm()
    checkouts = {"this": ROOT, "beside": options.beside.resolve()}
    found: dict[str, list[Figures]] = {name: [] for name in checkouts}
    for index in range(options.rounds):
        for name in sorted(checkouts, reverse=index % 2 == 0):
            found[name].append(measure(checkouts[name]))
            print(f"round {index + 1}, {name}: {_shown(found[name][-1])}", file=sys.stderr)
    medians = {name: _medians(figures) for name, figures in found.items()}
    ratios = {what: medians["this"][what] / medians["beside"][what] for what in medians["this"]}
    print(table(HEAD, [_row(what, medians, ratio) for what, ratio in ratios.items()]))
    if options.out is not None:
        options.out.write_text(json.dumps({"medians": medians, "ratio": ratios, "rounds": found}, indent=1))


def measure(checkout: Path) -> Figures:
    """One round of one checkout.

    Args:
        checkout: Its root.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = _environment(checkout, Path(cache))
        cold, warm = (_serve(environment) for _ in range(2))
        command = [sys.executable, "-m", "plumbline_serve.cli"]
        score = _run([*command, "score", str(IMAGE), "--text", "a green star", "--json"], environment)
        help_ = _run([*command, "--help"], environment)
    return {
        "cold start, s": cold["s"],
        "cold start, CPU s": cold["cpu_s"],
        "warm start, s": warm["s"],
        "warm start, CPU s": warm["cpu_s"],
        "gateway after a cold start, MiB": cold["mib"],
        "gateway after a warm start, MiB": warm["mib"],
        "plumbline score, warm, s": score["s"],
        "plumbline score, warm, CPU s": score["cpu_s"],
        "plumbline --help, CPU s": help_["cpu_s"],
    }


def _environment(checkout: Path, cache: Path) -> dict[str, str]:
    path = os.pathsep.join(str(checkout / folder) for folder in SOURCES)
    return {"PYTHONPATH": path, "PLUMBLINE_CACHE_DIR": str(cache)}


def _serve(environment: Mapping[str, str]) -> Figures:
    """Start a service until it is ready, and stop it; CPU is that of the processes which run by then."""
    started = time.perf_counter()
    with running("{}\n", environment, bounds={}) as service:
        took_s = time.perf_counter() - started
        cpu_s, mib = service.cpu_s(), _gateway_mib(service.pid)
    return {"s": took_s, "cpu_s": cpu_s, "mib": mib}


def _run(command: Sequence[str], environment: Mapping[str, str]) -> Figures:
    before, started = _children_cpu_s(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)
    return {"s": time.perf_counter() - started, "cpu_s": _children_cpu_s() - before}


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _gateway_mib(pid: int) -> float:
    return float(sum(psutil.Process(each).memory_info().rss for each in living(pid, GATEWAY))) / 2**20


def _medians(rounds: Sequence[Figures]) -> Figures:
    return {what: statistics.median(figures[what] for figures in rounds) for what in rounds[0]}


def _row(what: str, medians: Mapping[str, Figures], ratio: float) -> tuple[str, ...]:
    aim = AIMS.get(what)
    held_to = "" if aim is None else f"{aim:g}{'' if ratio <= aim else ', missed'}"
    return what, f"{medians['this'][what]:.2f}", f"{medians['beside'][what]:.2f}", f"{ratio:.2f}", held_to


def _shown(figures: Figures) -> str:
    return "; ".join(f"{what} {value:.2f}" for what, value in figures.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, required=True, help="root of another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
