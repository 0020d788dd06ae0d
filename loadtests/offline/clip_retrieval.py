"""`plumbline batch` beside clip-retrieval's inference, on the same weights and the same webdataset.

    make baselines
    python -m loadtests.offline.clip_retrieval [--images 256] [--rounds 3] [--workers 0 1 2 4]

Both go from tar files of JPEGs with captions to columnar files with a random ViT-B/32, both in float32: clip-retrieval
to embeddings of images and texts, ours to their scores. They take turns, each alone, with the network loaded already;
medians of the rounds count. No two images or captions are equal. clip-retrieval runs with each number of its reading
processes, and the best counts. First of all its embeddings are compared with ours: where the weights, the
preprocessing or the order of images are others, the program ends.
"""

import argparse
import io
import shutil
import statistics
import subprocess  # nosec B404
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loadtests.offline.whole_runs import new_files, score_into, settings_without_caches
from loadtests.service.random_clip import write_config
from loadtests.service.report import add_out, report
from loadtests.service.running import workplace
from plumbline_client import Image
from plumbline_serve.local import Plumbline
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import Settings

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-baselines/clip_retrieval/bin/python"
WORKERS = (0, 1, 2, 4)
"""Reading processes; 4 is its default, and 0 reads in the process that computes."""
NUM_SHARDS = 4
"""Tar files, each of which is read by one process."""
NUM_COMPARED = 16
"""The first images; the pictures of later ones are the same."""
MOST_APART = 1e-3
"""One less the cosine of an embedding of ours and of theirs, which is written in float16."""
MOST_OF_NEIGHBOURS = 0.1
"""The same over that of two inputs: random towers give all inputs similar embeddings."""


class ClipRetrieval:
    """Its inference in a process of its own, which has loaded its network.

    Args:
        process: Of `loadtests.baselines.clip_retrieval`.
        folder: Where it writes.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder
        self._into, self._out_of = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        self._read()

    def encode(self, source: Path) -> float:
        """Encode all of a folder of tar files; the seconds that took."""
        print(source, file=self._into, flush=True)
        return float(self._read())

    def found(self) -> tuple[list[str], Mapping[str, NDArray[np.float32]]]:
        """Names of images, and `[N, D]` embeddings of images and texts, as it has written them last."""
        names = pq.read_table(self._folder / "metadata/metadata_0.parquet").column("image_path").to_pylist()
        files = {kind: self._folder / f"{kind}_emb/{kind}_emb_0.npy" for kind in ("img", "text")}
        return names, {kind: np.load(file).astype(np.float32) for kind, file in files.items()}

    def _read(self) -> str:
        line = self._out_of.readline()
        if not line:
            raise SystemExit(f"clip-retrieval ended with status {self._process.wait()}")
        return line


@contextmanager
def clip_retrieval(folder: Path, weights: Path, num_workers: int) -> Iterator[ClipRetrieval]:
    """Start it and end it.

    Args:
        folder: For what it writes.
        weights: Of the network.
        num_workers: Reading processes.
    """
    command = [str(PYTHON), "-m", "loadtests.baselines.clip_retrieval", str(folder), str(weights), f"{num_workers}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:  # nosec B603  # our own command
        try:
            yield ClipRetrieval(process, folder)
        finally:
            process.kill()


def write_shards(folder: Path, num_images: int) -> dict[str, bytes]:
    """JPEGs with captions in tar files, as webdataset keeps them; what they hold, by name.

    Args:
        folder: For the files; what was there is removed.
        num_images: How many.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = dict(new_files(num_images))
    for shard in range(NUM_SHARDS):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for name in [each for each in files if int(Path(each).stem) % NUM_SHARDS == shard]:
                member = tarfile.TarInfo(name)
                member.size = len(files[name])
                tar.addfile(member, io.BytesIO(files[name]))
    return files


def compare(settings: Settings, theirs: ClipRetrieval, files: Mapping[str, bytes]) -> dict[str, dict[str, float]]:
    """How far embeddings are apart, one less their cosine: at most of ours and theirs, at least of two inputs.

    Args:
        settings: Of ours.
        theirs: It has encoded the files.
        files: By name.

    Raises:
        SystemExit: They are too far apart to be of the same network on the same inputs.
    """
    names, embeddings = theirs.found()
    rows = [row for row, name in enumerate(names) if int(name) < NUM_COMPARED]
    chosen = [names[row] for row in rows]
    with Plumbline(settings) as plumbline:
        ours = {
            "img": plumbline.embed([Image.data(files[f"{name}.jpg"]) for name in chosen]),
            "text": plumbline.embed([files[f"{name}.txt"].decode() for name in chosen]),
        }
    apart = {}
    for kind, reply in ours.items():
        vectors = np.array([each.floats() for each in reply.vectors])
        distances = 1 - _unit(vectors) @ _unit(embeddings[kind][rows]).T
        same, others = distances.diagonal().max(), distances[~np.eye(len(rows), dtype=bool)].min()
        apart[kind] = {"ours_and_theirs": float(same), "two_inputs": float(others)}
        if same > min(MOST_APART, MOST_OF_NEIGHBOURS * others):
            raise SystemExit(f"clip-retrieval's embeddings are not ours: {apart}")
    return apart


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of all sides, items a second, and ours over the best of theirs.

    Args:
        folder: For all files.
        options: `images` of a round, how many `rounds` count, and numbers of `workers`.
    """
    config, weights = write_config(folder)
    settings = settings_without_caches(config).model_copy(update={"precision": "fp32"})
    source = folder / "images"
    apart: dict[str, dict[str, float]] = {}
    seconds: dict[str, list[float]] = {}
    with InProcessRunner(settings, ["clipscore"]) as runner:
        for workers in options.workers:
            with clip_retrieval(folder / "embeddings", weights, workers) as theirs:
                for number in range(options.rounds + 1):
                    files = write_shards(source, options.images)
                    found = {f"clip_retrieval_{workers}": theirs.encode(source)}
                    apart = apart or compare(settings, theirs, files)
                    started = time.perf_counter()
                    score_into(folder, source, runner)
                    found["batch"] = time.perf_counter() - started
                    if number:  # the first warms up
                        for name, each in found.items():
                            seconds.setdefault(name, []).append(each)
    rates = {name: options.images / statistics.median(each) for name, each in seconds.items()}
    best = max(rate for name, rate in rates.items() if name != "batch")
    return {
        "images": options.images,
        "apart": apart,
        "seconds": seconds,
        "items_a_second": rates,
        "batch_over_clip_retrieval": rates["batch"] / best,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    add_out(parser)
    options = parser.parse_args()
    if not PYTHON.exists():
        raise SystemExit(f"there is no {PYTHON}; `make baselines` makes it")
    with workplace() as folder:
        figures = measure(folder, options)
    report(figures, out=options.out)


if __name__ == "__main__":
    main()
