"""Every figure that Plumbline is held to, by one command: `make bench`.

    python -m loadtests.bench [--only latency sharing] [--quick] [--out bench]

Runs the programs of loadtests/aims.py one after the other, each within its limit, writes what they say into a folder
(NAME.json, NAME.log), and prints one Markdown table, which is written there too. On two idle cores it takes about 40
minutes; anything else that runs meanwhile shows in the figures. Engines are compiled once and kept in that folder.

Exit status: 0 every program ran, whatever it found; 1 some did not.
"""

import argparse
import json
import os
import shlex
import subprocess  # nosec B404  # our own programs
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.aims import PROGRAMS, ROOT, Aim, Program
from loadtests.service.report import table
from loadtests.service.running import exit_on_sigterm, stopping

HEAD = ("what", "at least", "measured")
STOP_S = 300  # for a program to stop its services, each of which has its own limit


@dataclass(frozen=True)
class Outcome:
    """What a program found, or why it found nothing."""

    program: Program
    figures: Any = None
    why: str = ""


def main() -> int:
    options = _options()
    chosen = [program for program in PROGRAMS if program.name in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    exit_on_sigterm()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}", file=sys.stderr)
    outcomes = []
    for program in chosen:
        print(f"{program.name}: at most {program.limit_s:g} s", file=sys.stderr)
        outcomes.append(run(program, options.out.resolve(), is_quick=options.quick))
    found = table(HEAD, rows(outcomes))
    print(found)
    (options.out / "table.md").write_text(found + "\n", encoding="utf-8")
    return int(any(outcome.why for outcome in outcomes))


def _options() -> argparse.Namespace:
    names = [program.name for program in PROGRAMS]
    default = [program.name for program in PROGRAMS if not program.is_long]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=default, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that all run, and proves nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "bench", help="folder for the figures")
    return parser.parse_args()


def run(program: Program, folder: Path, *, root: Path = ROOT, is_quick: bool = False) -> Outcome:
    """Run one program of a checkout and read what it wrote into a folder."""
    out, log = (folder / f"{program.name}.{ending}" for ending in ("json", "log"))
    out.unlink(missing_ok=True)
    if not (root / program.needs).exists():
        return Outcome(program, why=f"there is no {program.needs}; `make baselines` makes it")
    arguments = shlex.split(f"{program.command} {program.quick if is_quick else ''}")
    command = [sys.executable, "-m", f"loadtests.{arguments[0]}", *arguments[1:], "--out", str(out)]
    environment = os.environ | {"PLUMBLINE_CACHE_DIR": str(folder / "engines")}
    with log.open("wb") as writing:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=writing, stderr=writing)  # nosec B603  # our own command
    with stopping(process, timeout_s=STOP_S):
        try:
            status = process.wait(program.limit_s)
        except subprocess.TimeoutExpired:
            return Outcome(program, why=f"not done within {program.limit_s:g} s; see {log}")
    if status != 0 or not out.exists():
        return Outcome(program, why=f"exit status {status}; see {log}")
    return Outcome(program, json.loads(out.read_text(encoding="utf-8")))


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str]]:
    """Lines of the table, one an aim."""
    return [(aim.what, _bound(aim), _measured(aim, outcome)) for outcome in outcomes for aim in outcome.program.aims]


def _bound(aim: Aim) -> str:
    if aim.most is not None:
        return f"at most {aim.most:g}"
    return "" if aim.least is None else f"{aim.least:g}"


def _measured(aim: Aim, outcome: Outcome) -> str:
    if outcome.why:
        return f"not measured: {outcome.why}"
    figure = outcome.figures
    for key in aim.path.split("/"):
        if key not in figure:
            return f"not measured: {outcome.program.name} says nothing of {key}"
        figure = figure[key]
    is_missed = (aim.least is not None and figure < aim.least) or (aim.most is not None and figure > aim.most)
    return f"{figure:.2f}{', missed' if is_missed else ''}"


if __name__ == "__main__":
    sys.exit(main())
