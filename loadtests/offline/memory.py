"""Whether `plumbline batch` holds the same memory however many rows there are.

Rows of JSON lines name 256 JPEGs and 500 texts in turn, so that most encodings are kept and the time goes to what this
is about: reading, moving and writing rows. The resident memory of the process is looked at as rows are done.

    python -m loadtests.offline.memory [--rows 200000] [--shard-rows 4096]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from plumbline_serve.offline.batch import Job, run
from plumbline_serve.offline.outputs import Output
from plumbline_serve.offline.progress import Meter
from plumbline_serve.offline.readers import open_input
from plumbline_serve.offline.rows import RowReading
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import load_settings

NUM_IMAGES, NUM_TEXTS, SIDE_PX = 256, 500, 96
MIB = 2**20


class Watching:
    """Looks at the resident memory after every so many rows.

    Args:
        every: Rows.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._process = psutil.Process()
        self._done = 0
        self.found: list[tuple[int, int]] = []
        """Rows that were done, and bytes."""

    def advance(self, num_rows: int, num_failed: int) -> None:
        """As `Meter.advance`."""
        del num_failed
        self._done += num_rows
        if self._done % self._every == 0:
            self.found.append((self._done, self._process.memory_info().rss))


def write_input(folder: Path, num_rows: int) -> Path:
    """Images, and rows that name them.

    Args:
        folder: For both.
        num_rows: How many.
    """
    rng = np.random.default_rng(1)
    for number in range(NUM_IMAGES):
        pixels = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            image, text = f"{number % NUM_IMAGES}.jpg", f"a red circle and {number % NUM_TEXTS} stars"
            file.write(json.dumps({"image": image, "text": text, "seed": number}) + "\n")
    return path


def measure(folder: Path, num_rows: int, *, shard_rows: int) -> list[tuple[int, int]]:
    """Score rows, and say what memory there was on the way: rows done, and resident bytes.

    Args:
        folder: For input and output.
        num_rows: How many.
        shard_rows: Of one shard.
    """
    watching = Watching(max(1, num_rows // 20))

    @contextmanager
    def meter(total: int | None, done: int) -> Iterator[Meter]:
        del total, done
        yield watching

    reader = open_input(write_input(folder, num_rows), RowReading(folder))
    job = Job(Output.parse(folder / "scores.parquet"), {}, shard_rows=shard_rows)
    with job.begun(), InProcessRunner(load_settings(), ["clipscore"]) as runner:
        run(job, reader, runner, meter)
    return watching.found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shard-rows", type=int, default=4096)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        found = measure(Path(folder), options.rows, shard_rows=options.shard_rows)
        seconds = time.monotonic() - started
    for rows, size in found:
        print(f"{rows:>9,} rows {size / MIB:8.0f} MiB")
    early = max(size for rows, size in found if rows <= options.rows // 4)
    late = max(size for rows, size in found if rows > options.rows // 4)
    print(f"\ngreatest of the first quarter {early / MIB:.0f} MiB, of the rest {late / MIB:.0f} MiB")
    print(f"{options.rows:,} rows in {seconds:.0f} s, {options.rows / seconds:,.0f}/s")


if __name__ == "__main__":
    main()
