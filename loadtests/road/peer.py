"""Plumbline beside the server that most teams write, FastAPI and open_clip (loadtests/peers/fastapi_open_clip.py).

    python loadtests/road/peer.py [--callers 64] [--rounds 5] [--out FILE]

The same random ViT-B/32 weights, the same JPEG files and captions, as many threads for each, callers in a closed loop
with one pair a request; no two pictures or captions are equal, and Plumbline keeps no rows. The servers take turns and
rest while the other is asked. Printed are the ratio of requests a second and that of the 99th percentiles, each the
median over rounds.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from callers import Window, ask_rest, form
from efficiency import write_config
from pictures import captions, forms, pictures
from report import add_out, report
from running import NOTHING_KEPT, running

from plumbline_serve.ray_environment import free_port

PEERS = Path(__file__).parents[1] / "peers"
START_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description="Plumbline beside FastAPI and open_clip.")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--requests", type=int, default=256, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config, checkpoint = write_config(Path(name))
        with running(config.read_text(encoding="utf-8"), NOTHING_KEPT) as ours, peer(checkpoint) as port:
            sides = {
                "plumbline": partial(ask_rest, ours.port, forms(1, is_new=True)),
                "fastapi_open_clip": partial(ask_rest, port, _peer_forms(), path="/score"),
            }
            rounds: dict[str, list[Window]] = {side: [] for side in sides}
            for number in range(options.rounds + 1):  # the first warms up
                for side, ask in sides.items():
                    window = asyncio.run(ask(num_requests=options.requests, num_callers=options.callers))
                    if number:
                        rounds[side].append(window)
    found = {side: _summary(windows) for side, windows in rounds.items()}
    found["ratios"] = {
        "requests_a_second": _ratio(found, "requests_a_second"),
        "p99_ms": 1 / _ratio(found, "p99_ms"),
    }
    arguments = {name: value for name, value in vars(options).items() if name != "out"}
    report({"arguments": arguments, **found}, out=options.out)


@contextmanager
def peer(checkpoint: Path) -> Iterator[int]:
    """The other server, ready, on a port of its own.

    Raises:
        RuntimeError: It did not become ready.
    """
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_open_clip:app", "--port", str(port), "--log-level", "warning"]
    environment = {"PLUMBLINE_PEER_CHECKPOINT": str(checkpoint), "PLUMBLINE_PEER_THREADS": str(os.cpu_count() or 1)}
    with subprocess.Popen(command, cwd=PEERS, env=os.environ | environment) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/ready", process)
            yield port
        finally:
            process.terminate()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url):  # noqa: S310 - our own
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("The peer did not become ready.")


def _peer_forms() -> Iterator[bytes]:
    texts = captions()
    for parts in pictures(1, is_new=True):
        yield form({"text": next(texts).encode()}, {"picture": next(iter(parts.values()))})


def _summary(windows: list[Window]) -> dict[str, Any]:
    rates = [window.num_requests / window.seconds for window in windows]
    p99s = [statistics.quantiles(window.latencies_s, n=100)[98] * 1000 for window in windows]
    return {
        "requests_a_second": statistics.median(rates),
        "p99_ms": statistics.median(p99s),
        "rounds_requests_a_second": rates,
        "rounds_p99_ms": p99s,
    }


def _ratio(found: dict[str, Any], figure: str) -> float:
    ratio: float = found["plumbline"][figure] / found["fastapi_open_clip"][figure]
    return ratio


if __name__ == "__main__":
    main()
