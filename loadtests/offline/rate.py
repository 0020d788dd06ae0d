"""How much of the engines' own speed `plumbline batch` reaches, from a folder of JPEGs with captions to Parquet.

The same random ViT-B/32 runs on inputs that are prepared already, and as a whole run: files are listed and read,
decoded, preprocessed, encoded, scored and written. They take turns, so that what the machine does meanwhile falls on
both alike, and medians of the rounds count. No two images or captions are equal.

    python -m loadtests.offline.rate [--images 512] [--rounds 3] [--config plumbline.yaml]
"""

import argparse
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtests.offline.whole_runs import new_files, score_into, settings_without_caches
from loadtests.service.efficiency import Engines
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import workplace
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.offline.runners.in_process import InProcessRunner


def write_folder(folder: Path, num_images: int) -> None:
    """JPEGs with captions beside them.

    Args:
        folder: For both; made anew.
        num_images: How many.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in new_files(num_images):
        (folder / name).write_bytes(data)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time of this process."""
    started, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu_s


def measure(folder: Path, config: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of all sides, items a second, and ratios to the engines'."""
    images, settings = folder / "images", settings_without_caches(config)
    seconds: dict[str, list[tuple[float, float]]] = {}
    with InProcessRunner(settings, ["clipscore"]) as runner:
        engines = Engines(make_scorers(settings)["clipscore"])
        for number in range(options.rounds + 1):
            write_folder(images, options.images)
            found = {
                "engines": timed(lambda: engines.run(options.images)),
                "batch": timed(lambda: score_into(folder, images, runner)),
            }
            if number:  # the first warms up
                for name, each in found.items():
                    seconds.setdefault(name, []).append(each)
    rates = {
        name: {
            "items_a_second": options.images / statistics.median(each for each, _ in rounds),
            "cpu_ms": 1000 * statistics.median(cpu_s for _, cpu_s in rounds) / options.images,
            "rounds_s": [each for each, _ in rounds],
        }
        for name, rounds in seconds.items()
    }
    batch_rate = rates["batch"]["items_a_second"]
    ratios = {
        "rate": batch_rate / rates["engines"]["items_a_second"],
        "cpu": rates["engines"]["cpu_ms"] / rates["batch"]["cpu_ms"],
    }
    return {"images": options.images, "rates": rates, "batch_over_engines": ratios}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--config", type=Path, help="of a clipscore; default: ViT-B/32 with random weights")
    add_out(parser)
    options = parser.parse_args()
    with workplace() as folder:
        config, _ = write_config(folder)
        figures = measure(folder, options.config or config, options)
    report(figures, out=options.out)
    for name, ratio in figures["batch_over_engines"].items():
        print(f"batch over its engines, by {name}: {ratio:.2f}")


if __name__ == "__main__":
    main()
