"""Plumbline beside other servers of the same weights (loadtests/baselines), by default the one that most teams write.

    python -m loadtests.service.baseline [--peer fastapi_open_clip ...] [--python PATH] [--callers 64] [--out FILE]

The same random ViT-B/32, the same JPEG files and captions, as many threads for each, callers in a closed loop with one
pair a request; no two pictures or captions are equal, and Plumbline keeps no rows. First all servers score a
few pairs alike, or nothing is measured. They take turns, and rest while another is asked. Printed are, for each peer,
the ratio of requests a second, by medians over the rounds, and that of the 99th percentiles over all rounds together.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from loadtests.service.baseline_server import peer_server
from loadtests.service.callers import Window, open_session, repeat
from loadtests.service.percentiles import in_ms, require
from loadtests.service.pictures import captions, pictures
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import NOTHING_KEPT, running, workplace
from loadtests.service.sides import PEERS, Ask, ask_plumbline

OURS = "plumbline"
ENVIRONMENTS = Path(__file__).parents[2] / ".venv-baselines"
NUM_COMPARED = 8  # pairs, whose cosines lie up to 0.03 apart
LARGEST_DIFFERENCE = 5e-3  # of cosines: what bf16 moves them by at most (docs/parity.md)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", choices=list(PEERS), default=["fastapi_open_clip"], metavar="NAME")
    parser.add_argument(
        "--python", type=Path, help="of all peers; by default each has what `make baselines` made for it, else this one"
    )
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--requests", type=int, default=256, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    require(options.requests * options.rounds, 99)
    with workplace() as folder, ExitStack() as servers:
        config, checkpoint = write_config(folder)
        ours = servers.enter_context(running(config.read_text(encoding="utf-8"), NOTHING_KEPT))
        sides = {OURS: Side(ask_plumbline, f"http://127.0.0.1:{ours.port}")}
        for name in options.peer:
            peer = PEERS[name]
            url = peer_server(name, checkpoint, ready_path=peer.ready_path, python=options.python or own_python(name))
            sides[name] = Side(peer.ask, servers.enter_context(url))
        cosines = asyncio.run(compare(sides))
        found = _measure(sides, options)
    arguments = {name: value for name, value in vars(options).items() if name not in ("out", "python")}
    ratios = {name: ratio(found[OURS], found[name]) for name in options.peer}
    report({"arguments": arguments, "cosines": cosines, "sides": found, "ratios": ratios}, out=options.out)


def own_python(name: str) -> Path:
    """The interpreter of a peer: of its own environment, where it has one."""
    own = ENVIRONMENTS / name / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


class Side:
    """A server, and the pairs that it is asked about: each new, and the same for every side."""

    def __init__(self, ask: Ask, url: str) -> None:
        self._ask, self._url = ask, url
        self._pictures, self._captions = pictures(1, is_new=True), captions()

    async def score(self, session: aiohttp.ClientSession) -> float:
        """The cosine of the next pair."""
        [picture] = next(self._pictures).values()
        return await self._ask(session, self._url, picture, next(self._captions))

    async def run(self, *, num_requests: int, num_callers: int) -> Window:
        """Have as many pairs scored; an error ends the run."""
        async with open_session() as session:
            return await repeat(partial(self.score, session), num_requests=num_requests, num_callers=num_callers)


async def compare(sides: Mapping[str, Side]) -> dict[str, list[float]]:
    """The cosines that each side gives its first pairs.

    Raises:
        SystemExit: They are not of the same weights and the same pairs.
    """
    async with open_session() as session:
        cosines = {name: [await side.score(session) for _ in range(NUM_COMPARED)] for name, side in sides.items()}
    for name, found in cosines.items():
        if max(abs(a - b) for a, b in zip(found, cosines[OURS], strict=True)) > LARGEST_DIFFERENCE:
            raise SystemExit(f"{name} scores the same pairs differently: {found}, not {cosines[OURS]}.")
    return cosines


def _measure(sides: Mapping[str, Side], options: argparse.Namespace) -> dict[str, Any]:
    rounds: dict[str, list[Window]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):  # the first warms up
        for name, side in sides.items():
            window = asyncio.run(side.run(num_requests=options.requests, num_callers=options.callers))
            if number:
                rounds[name].append(window)
    return {name: summarise(windows) for name, windows in rounds.items()}


def summarise(windows: list[Window]) -> dict[str, Any]:
    """The median rate, and percentiles of all latencies together: a round alone is too few for a 99th."""
    rates = [window.num_requests / window.seconds for window in windows]
    latencies_s = [latency for window in windows for latency in window.latencies_s]
    return {"requests_a_second": statistics.median(rates), **in_ms(latencies_s), "rounds_requests_a_second": rates}


def ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """How many times faster and how many times sooner: above 1 is ours."""
    return {
        "requests_a_second": ours["requests_a_second"] / theirs["requests_a_second"],
        "p99_ms": theirs["p99_ms"] / ours["p99_ms"],
    }


if __name__ == "__main__":
    main()
