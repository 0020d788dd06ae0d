"""Whole runs of `plumbline batch` in this process, and inputs for them."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.service.images import captions, draw_images
from plumbline_serve.offline.batch import Job, run
from plumbline_serve.offline.outputs import Output
from plumbline_serve.offline.progress import LineMeter, Meter
from plumbline_serve.offline.readers import open_input
from plumbline_serve.offline.rows import RowReading
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import CacheSettings, Settings, load_settings


def settings_without_caches(config: Path) -> Settings:
    """What a file says, but that nothing is kept: captions repeat from round to round."""
    nothing_kept = CacheSettings(image_bytes=0, text_bytes=0, pair_bytes=0, caption_bytes=0)
    return load_settings(config).model_copy(update={"caches": nothing_kept})


def new_files(num_images: int) -> Iterator[tuple[str, bytes]]:
    """JPEGs with captions beside them, all new, by the names of their files.

    Args:
        num_images: How many.
    """
    [images] = itertools.islice(draw_images(num_images, is_new=True), 1)
    for (name, data), text in zip(images.items(), captions(), strict=False):
        yield f"{int(name):06d}.jpg", data
        yield f"{int(name):06d}.txt", text.encode()


def score_into(folder: Path, source: Path, runner: InProcessRunner) -> None:
    """Score all of an input into a new Parquet file.

    Args:
        folder: For the file.
        source: The input.
        runner: What scores.
    """
    job = Job(Output.parse(folder / f"out-{time.monotonic_ns()}.parquet"), {})
    with job.begun():
        run(job, open_input(source, RowReading(source)), runner, _quiet)


@contextmanager
def _quiet(total: int | None, done: int) -> Iterator[Meter]:
    """No progress."""
    yield LineMeter(total, done, write=list[str]().append)
