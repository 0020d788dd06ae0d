"""Whether OpenVINO's streams pay: `python -m loadtests.engine.streams`.

An engine has one caller, so a second stream helps only where a batch is cut in two and both halves run at once, each on
half of the threads. ViT-B/32's image tower with random weights, two threads: one stream that takes the batch whole,
against two that take a half each. Seconds on the clock, since CPU time cannot show how well two cores are used; the
two in turn, the median of each round's ratio, so that what else the machine does falls on both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.scorers.interleaved import add_out, report
from loadtests.scorers.product import write_clip
from plumbline_models.backends.openvino.conversion import convert
from plumbline_models.backends.openvino.runtime import cpu_capabilities, open_core
from plumbline_models.networks.clip.graph import clip_image_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec

ARCH, SIDE_PX = "ViT-B-32", 224
BATCHES = (2, 4, 8, 12, 16, 18)
NUM_THREADS = 2


def open_side(core: Any, model: Any, num_streams: int) -> Callable[[np.ndarray], None]:
    """Runs a batch, cut into as many parts as there are streams."""
    hint = "bf16" if "BF16" in cpu_capabilities(core) else "f32"
    options = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": NUM_THREADS,
        "NUM_STREAMS": str(num_streams),
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", options)
    requests = [compiled.create_infer_request() for _ in range(num_streams)]

    def run(batch: np.ndarray) -> None:
        for request, part in zip(requests, np.array_split(batch, num_streams), strict=True):
            request.start_async({"pixels": part})
        for request in requests:
            request.wait()

    return run


def measure(folder: Path, num_rounds: int) -> dict[str, Any]:
    """Seconds of one stream over those of two, by size of batch."""
    core = open_core()
    spec = ClipSpec.of(ClipSection(arch=ARCH, checkpoint=write_clip(ARCH, folder)))
    model = convert(core, clip_image_graph(spec), scratch=folder).model
    one, two = (open_side(core, model, num_streams) for num_streams in (1, 2))
    cases = {}
    for size in BATCHES:
        batch = np.random.default_rng(0).integers(0, 256, (size, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        for run in (one, two):
            run(batch)
        found = [_seconds(one, batch) / _seconds(two, batch) for _ in range(num_rounds)]
        cases[f"batch_{size}"] = {
            "one_over_two": round(statistics.median(found), 3),
            "quartiles": [round(each, 3) for each in statistics.quantiles(found, n=4, method="inclusive")],
        }
    return cases


def _seconds(run: Callable[[np.ndarray], None], batch: np.ndarray) -> float:
    started = time.perf_counter()
    run(batch)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print, and write where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = measure(Path(folder), options.rounds)
    report("streams", cases, out=options.out)


if __name__ == "__main__":
    main()
