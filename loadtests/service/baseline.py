"""Plumbline beside other servers of the same weights (loadtests/baselines), by default the one that most teams write.

    python -m loadtests.service.baseline [--baseline fastapi_open_clip ...] [--python PATH] [--clients 64] [--out FILE]

The same random ViT-B/32, the same JPEG files and captions, as many threads for each, clients in a closed loop with one
pair per request; no two images or captions are equal, and Plumbline keeps no encodings. First all servers score a few
pairs alike, or nothing is measured. They take turns, and rest while another is measured. Printed are, for each
baseline, the ratio of requests per second, by medians over the rounds, and that of the 99th percentiles over all rounds
together.
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

from loadtests.service.baseline_clients import BASELINES, ScorePair, score_by_plumbline
from loadtests.service.baseline_server import baseline_server
from loadtests.service.images import captions, draw_images
from loadtests.service.load_generators import Window, open_session, repeat
from loadtests.service.percentiles import in_ms, require
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import NOTHING_KEPT, running, workplace

OURS = "plumbline"
ENVIRONMENTS = Path(__file__).parents[2] / ".venv-baselines"
NUM_COMPARED = 8  # pairs, whose cosines lie up to 0.03 apart
LARGEST_DIFFERENCE = 5e-3  # of cosines: what bf16 moves them by at most (docs/parity.md)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", nargs="+", choices=list(BASELINES), default=["fastapi_open_clip"], metavar="NAME")
    parser.add_argument(
        "--python",
        type=Path,
        help="of all baselines; by default each has what `make baselines` made for it, else this one",
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=256, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    require(options.requests * options.rounds, 99)
    with workplace() as folder, ExitStack() as stack:
        config, checkpoint = write_config(folder)
        ours = stack.enter_context(running(config.read_text(encoding="utf-8"), NOTHING_KEPT))
        servers = {OURS: Server(score_by_plumbline, f"http://127.0.0.1:{ours.port}")}
        for name in options.baseline:
            baseline = BASELINES[name]
            url = baseline_server(
                name, checkpoint, ready_path=baseline.ready_path, python=options.python or own_python(name)
            )
            servers[name] = Server(baseline.score_pair, stack.enter_context(url))
        cosines = asyncio.run(compare(servers))
        found = _measure(servers, options)
    arguments = {name: value for name, value in vars(options).items() if name not in ("out", "python")}
    ratios = {name: ratio(found[OURS], found[name]) for name in options.baseline}
    report({"arguments": arguments, "cosines": cosines, "servers": found, "ratios": ratios}, out=options.out)


def own_python(name: str) -> Path:
    """The interpreter of a baseline: of its own environment, where it has one."""
    own = ENVIRONMENTS / name / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


class Server:
    """A server, and the pairs that it scores: each new, and the same for every server."""

    def __init__(self, score_pair: ScorePair, url: str) -> None:
        self._score_pair, self._url = score_pair, url
        self._images, self._captions = draw_images(1, is_new=True), captions()

    async def score(self, session: aiohttp.ClientSession) -> float:
        """The cosine of the next pair."""
        [image] = next(self._images).values()
        return await self._score_pair(session, self._url, image, next(self._captions))

    async def run(self, *, num_requests: int, num_clients: int) -> Window:
        """Have as many pairs scored; an error ends the run."""
        async with open_session() as session:
            return await repeat(partial(self.score, session), num_requests=num_requests, num_clients=num_clients)


async def compare(servers: Mapping[str, Server]) -> dict[str, list[float]]:
    """The cosines that each server gives its first pairs.

    Raises:
        SystemExit: They are not of the same weights and the same pairs.
    """
    async with open_session() as session:
        cosines = {name: [await server.score(session) for _ in range(NUM_COMPARED)] for name, server in servers.items()}
    for name, found in cosines.items():
        if max(abs(a - b) for a, b in zip(found, cosines[OURS], strict=True)) > LARGEST_DIFFERENCE:
            raise SystemExit(f"{name} scores the same pairs differently: {found}, not {cosines[OURS]}.")
    return cosines


def _measure(servers: Mapping[str, Server], options: argparse.Namespace) -> dict[str, Any]:
    rounds: dict[str, list[Window]] = {name: [] for name in servers}
    for number in range(options.rounds + 1):  # the first warms up
        for name, server in servers.items():
            window = asyncio.run(server.run(num_requests=options.requests, num_clients=options.clients))
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
