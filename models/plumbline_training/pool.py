"""A pool of drawn scenes on disk, so that training never waits for the renderer.

A shard is a pickle of images and the scenes they show; it is written by this program and
read by this program only, under a folder that the caller owns.
"""

import argparse
import pickle  # nosec B403  # it reads what it wrote
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from plumbline_models.core.arrays import Pixels, ResizedPixels
from plumbline_training.paint import paint
from plumbline_training.sampling import sample_scene
from plumbline_training.scenes import Scene
from plumbline_training.styles import sample_style

SHARD_SCENES = 2048


@dataclass(frozen=True, slots=True)
class Pool:
    """Images `[N, S, S, 3]` RGB uint8 and the scenes they show, in the same order."""

    images: NDArray[np.uint8]
    scenes: tuple[Scene, ...]


def squash(image: Pixels, size_px: int) -> ResizedPixels:
    """Resize both sides to `size_px`, whatever the aspect: what `resize_mode: squash` of open_clip does."""
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BICUBIC))


def draw_shard(seed: int, size_px: int, num_scenes: int = SHARD_SCENES) -> Pool:
    """Sample and paint a number of scenes from one seed."""
    rng = np.random.default_rng(seed)
    scenes = tuple(sample_scene(rng) for _ in range(num_scenes))
    images = [squash(paint(scene, sample_style(rng)), size_px) for scene in scenes]
    return Pool(np.stack(images), scenes)


def write_shard(pool: Pool, folder: Path, number: int) -> None:
    """Write one shard; it appears under its name only when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    half_written = folder / f"shard-{number:04d}.part"
    with half_written.open("wb") as file:
        pickle.dump(pool, file, protocol=pickle.HIGHEST_PROTOCOL)
    half_written.rename(folder / f"shard-{number:04d}.pickle")


def read_pool(folder: Path) -> Pool:
    """All complete shards of a folder as one pool."""
    shards = [_read_shard(path) for path in sorted(folder.glob("shard-*.pickle"))]
    return Pool(
        np.concatenate([shard.images for shard in shards]),
        tuple(scene for shard in shards for scene in shard.scenes),
    )


def _read_shard(path: Path) -> Pool:
    with path.open("rb") as file:
        shard = pickle.load(file)  # noqa: S301  (our own file, see the module's first lines)  # nosec B301
    if not isinstance(shard, Pool):
        raise TypeError(f"{path} holds no pool")
    return shard


def main() -> None:
    """Fill a folder with shards."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--first", type=int, default=0, help="number of the first shard, to draw in several processes")
    options = parser.parse_args()
    for number in track(range(options.first, options.first + options.shards), description="drawing"):
        if not (options.out / f"shard-{number:04d}.pickle").exists():
            pool = draw_shard(options.seed * 100_000 + number, options.size_px)
            write_shard(pool, options.out, number)


if __name__ == "__main__":
    main()
