"""How much of the engines' own speed reaches callers, over REST and gRPC.

    python loadtests/road/efficiency.py --items 1 --callers 64
    python loadtests/road/efficiency.py --items 32 --callers 4

The same random ViT-B/32 runs in this process, on inputs that are prepared already, and in a service, whose callers
send JPEG files and captions in a closed loop; no two pictures or captions are equal. Sides take turns, so that what the
machine does meanwhile falls on all alike. Two ratios are printed of each wire to the engines: of items a second, and of
CPU time an item (all processes of the service), which is what the first would be if nothing ever waited.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "heads"))
from callers import ask_grpc, ask_rest
from pictures import captions, forms, messages, pictures
from product import write_clip
from running import NOTHING_KEPT, Running, running

from plumbline_models.core.protocols import Scorer
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_serve.assembly import make_scorers
from plumbline_serve.settings import load_settings

ARCH = "ViT-B-32-quickgelu"
NUM_IN_HAND = 64  # prepared inputs that the engines run again and again


def main() -> None:
    parser = argparse.ArgumentParser(description="How much of the engines' own speed reaches callers.")
    parser.add_argument("--items", type=int, default=1, help="a request")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-items", type=int, default=256)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config, _ = write_config(Path(name))
        scorer = make_scorers(load_settings(config))["clipscore"]
        engines = Engines(scorer)
        with running(config.read_text(encoding="utf-8"), NOTHING_KEPT) as service:
            found = _rounds(engines, service, arguments)
    document = {"arguments": vars(arguments) | {"out": None}, "load_average": os.getloadavg(), "sides": found}
    for wire in ("rest", "grpc"):
        rate = found[wire]["items_a_second"] / found["engines"]["items_a_second"]
        cpu = found["engines"]["cpu_ms"] / found[wire]["cpu_ms"]
        print(f"{wire}: {rate:.2f} of the engines' items a second, {cpu:.2f} by CPU time")
    if arguments.out:
        arguments.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


class Engines:
    """A scorer's two encoders in this process, in batches as large as they take."""

    def __init__(self, scorer: Scorer) -> None:
        self._image, self._text = (encoder for encoder in (scorer.image, scorer.text) if encoder is not None)
        self._image.load()
        self._text.load()
        [hand] = itertools.islice(pictures(NUM_IN_HAND, is_new=True), 1)
        self._pixels = [self._image.prepare(decode(data, DecodePolicy())) for data in hand.values()]
        self._ids = [self._text.prepare(caption) for caption in itertools.islice(captions(), NUM_IN_HAND)]

    def run(self, num_items: int) -> None:
        """Encode as many images, and as many captions in batches of one length."""
        size = int(self._image.max_batch_cost)
        for start in range(0, num_items, size):
            chosen = [number % NUM_IN_HAND for number in range(start, min(start + size, num_items))]
            self._image.encode([self._pixels[number] for number in chosen])
            buckets: dict[Any, list[Any]] = {}
            for number in chosen:
                buckets.setdefault(self._text.bucket(self._ids[number]), []).append(self._ids[number])
            for bucket in buckets.values():
                self._text.encode(bucket)


def _rounds(engines: Engines, service: Running, arguments: argparse.Namespace) -> dict[str, Any]:
    num_requests = max(arguments.round_items // arguments.items, arguments.callers)
    num_items = num_requests * arguments.items
    wires = {
        "rest": partial(ask_rest, service.port, forms(arguments.items, is_new=True)),
        "grpc": partial(ask_grpc, service.grpc_port, messages(arguments.items, is_new=True)),
    }
    rounds: dict[str, list[tuple[float, float]]] = {"engines": [], "rest": [], "grpc": []}
    engines.run(num_items // 4)
    for number in range(arguments.rounds + 1):  # the first warms up
        started, cpu = time.perf_counter(), time.process_time()
        engines.run(num_items)
        found = {"engines": (time.perf_counter() - started, time.process_time() - cpu)}
        for wire, ask in wires.items():
            cpu = service.cpu_s()
            window = asyncio.run(ask(num_requests=num_requests, num_callers=arguments.callers))
            found[wire] = window.seconds, service.cpu_s() - cpu
        if number:
            for side, spent in found.items():
                rounds[side].append(spent)
    return {side: _summary(spent, num_items) for side, spent in rounds.items()}


def _summary(rounds: list[tuple[float, float]], num_items: int) -> dict[str, Any]:
    rates = [num_items / seconds for seconds, _ in rounds]
    costs = [cpu_s / num_items * 1000 for _, cpu_s in rounds]
    return {
        "items_a_second": statistics.median(rates),
        "cpu_ms": statistics.median(costs),
        "rounds_items_a_second": rates,
        "rounds_cpu_ms": costs,
    }


def write_config(folder: Path) -> tuple[Path, Path]:
    """A configuration of random weights, which cost what trained ones do, and the weights."""
    weights = write_clip(ARCH, folder)
    config = folder / "plumbline.yaml"
    scorer = f"{{arch: {ARCH}, checkpoint: {weights}}}"
    config.write_text(f"cache_dir: {folder / 'engines'}\nscorers: {{clipscore: {scorer}}}\n", encoding="utf-8")
    return config, weights


if __name__ == "__main__":
    main()
