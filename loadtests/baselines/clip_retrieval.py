"""clip-retrieval's inference: unit embeddings of the images and texts of a webdataset, as NumPy and Parquet files.

    .venv-baselines/clip_retrieval/bin/python -m loadtests.baselines.clip_retrieval OUT CHECKPOINT WORKERS

Prints `ready`, then for each line of standard input, a folder of tar files, encodes what is in it and prints the
seconds that took. Its own reader, mapper, writer and loop do that, in float32, as they do on every CPU. Left out is
what it does once per run: loading the network, and starting two processes that count, seconds each.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from all_clip import load_clip
from clip_retrieval.clip_inference.mapper import ClipMapper
from clip_retrieval.clip_inference.reader import WebdatasetReader
from clip_retrieval.clip_inference.runner import Runner, Sampler
from clip_retrieval.clip_inference.writer import NumpyWriter

ARCH = "ViT-B-32-quickgelu"
BATCH_SIZE = 32
"""As many as Plumbline's engines take at once."""
LOADING = {"use_jit": False, "warmup_batch_size": 1, "clip_cache_path": None}
KINDS = {"enable_image": True, "enable_text": True, "enable_metadata": False}


class Uncounted:
    """In the place of its logger."""

    def start(self) -> None:
        """Called before a run."""

    def __call__(self, figures: Mapping[str, float]) -> None:
        """Called after a batch."""

    def end(self) -> None:
        """Called after a run."""


def runner(source: Path, out: Path, name: str, num_workers: int) -> Callable[[int], None]:
    """Its loop over a webdataset.

    Args:
        source: A folder of tar files.
        out: Where it writes.
        name: Of the network.
        num_workers: Reading processes.
    """
    files = sorted(map(str, source.glob("*.tar")))

    def reader(sampler: Sampler) -> WebdatasetReader:
        _, preprocess, tokenizer = load_clip(clip_model=name, **LOADING)
        return WebdatasetReader(sampler, preprocess, tokenizer, files, BATCH_SIZE, num_workers, **KINDS)

    run: Callable[[int], None] = Runner(
        reader_builder=reader,
        mapper_builder=lambda: ClipMapper(use_mclip=False, clip_model=name, mclip_model="", **KINDS, **LOADING),
        writer_builder=lambda part: NumpyWriter(part, str(out), output_partition_count=1, **KINDS),
        logger_builder=lambda _: Uncounted(),
        output_partition_count=1,
    )
    return run


def main() -> None:
    """Encode each folder that standard input names."""
    out, checkpoint, num_workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.environ["HF_HUB_OFFLINE"] = "1"
    figures, name = sys.stdout, f"open_clip:{ARCH}/{checkpoint}"
    with contextlib.redirect_stdout(sys.stderr):  # it tells what it does there
        load_clip(clip_model=name, **LOADING)
        print("ready", file=figures, flush=True)
        for line in sys.stdin:
            shutil.rmtree(out, ignore_errors=True)
            started = time.perf_counter()
            runner(Path(line.strip()), out, name, num_workers)(0)
            print(time.perf_counter() - started, file=figures, flush=True)


if __name__ == "__main__":
    main()
