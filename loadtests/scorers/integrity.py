"""Whole and broken pictures, and how many of each pass `integrity`: `python -m loadtests.scorers.integrity`.

Whole: crops of the photographs and figures in scikit-image's wheel, and scenes that the training renderer draws, in
many sizes, half of them through JPEG. Broken: made of whole ones, or drawn, from seeds. Prints a row per kind, and the
time for an image of 512 pixels.
"""

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import skimage.data
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFile

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.integrity import Fault, find_faults
from plumbline_models.images.repetition import is_flat_pattern
from plumbline_training.paint import paint
from plumbline_training.sampling import sample_scene
from plumbline_training.styles import sample_style

LEAST_CROP: Final = 0.6  # of each side
_LONG_PX: Final = (96, 768)
_LEAST_DETAIL: Final = 25.0  # standard deviation of what is tiled or cut off
_LEAST_MISSING: Final = 0.06  # of the rows of a file that broke off
_SAME: Final = 3  # levels, within what decoders leave
_BLACK_BARS: Final = 0.7  # of all bars
_VISIBLE, _SEEN_SHARE = 24, 0.92  # levels, and share of each edge, by which bars and picture differ
_HEADER_BYTES: Final = 800  # of a JPEG, its tables included


def whole_pictures(seed: int, count: int) -> Iterator[Pixels]:
    """Crops of scikit-image's pictures and drawn scenes, in turn.

    Args:
        seed: Of the sequence.
        count: How many.
    """
    rng = np.random.default_rng(seed)
    for index in range(count):
        yield _through_jpeg(_crop(rng) if index % 2 else paint(sample_scene(rng), sample_style(rng)), rng)


def broken_pictures(fault: Fault, seed: int, count: int) -> Iterator[Pixels]:
    """Pictures with one fault.

    Args:
        fault: Which.
        seed: Of the sequence.
        count: How many.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield BREAKERS[fault](rng)


def _names() -> list[Path]:
    folder = Path(skimage.data.__file__).parent
    return sorted(file for file in folder.iterdir() if file.suffix in {".png", ".jpg"})


@cache
def _photograph(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _size(rng: Generator) -> tuple[int, int]:
    long, ratio = int(rng.integers(*_LONG_PX)), rng.uniform(0.5, 1.0)
    sides = long, max(64, int(long * ratio))
    return sides if rng.random() < 1 / 2 else (sides[1], sides[0])


def _crop(rng: Generator) -> Pixels:
    names = _names()
    image = _photograph(names[rng.integers(len(names))])
    width, height = (int(side * rng.uniform(LEAST_CROP, 1)) for side in image.size)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    long = int(rng.integers(*_LONG_PX))
    scale = min(1.5, long / max(width, height))
    size = max(48, int(width * scale)), max(48, int(height * scale))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)))


def _through_jpeg(pixels: Pixels, rng: Generator) -> Pixels:
    if rng.random() < 1 / 2:
        return pixels
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=int(rng.integers(70, 96)))
    return np.asarray(Image.open(out))


def _detailed(rng: Generator) -> Pixels:
    while True:
        pixels = _crop(rng) if rng.random() < 1 / 2 else paint(sample_scene(rng), sample_style(rng))
        if pixels.mean(axis=2).std() > _LEAST_DETAIL:
            return pixels


def _blank(rng: Generator) -> Pixels:
    colour = rng.choice([0, 255, 128]) if rng.random() < 1 / 2 else rng.integers(0, 256, 3)
    return np.full((*_size(rng), 3), colour, np.uint8)


def _near_constant(rng: Generator) -> Pixels:
    height, width = _size(rng)
    field: NDArray[Any] = np.full((height, width, 3), rng.uniform(0, 255, 3))
    if rng.random() < 1 / 2:
        field += rng.normal(0, rng.uniform(0.3, 1.5), field.shape)
    else:
        field += np.linspace(0, rng.uniform(1, 6), width)[:, None]
    return _through_jpeg(np.clip(field, 0, 255).astype(np.uint8), rng)


def _noise(rng: Generator) -> Pixels:
    shape = (*_size(rng), 3 if rng.random() < 1 / 2 else 1)
    kind = rng.integers(3)
    field: NDArray[Any]
    if kind == 0:
        field = rng.normal(rng.uniform(90, 160), rng.uniform(20, 80), shape)
    elif kind == 1:
        field = rng.uniform(0, 255, shape)
    else:
        field = 255.0 * (rng.random(shape) < rng.uniform(0.2, 0.8))
    return _through_jpeg(np.broadcast_to(np.clip(field, 0, 255), (*shape[:2], 3)).astype(np.uint8), rng)


def _tiled(rng: Generator) -> Pixels:
    tile = _detailed(rng)
    tile = tile[: int(rng.integers(32, 257)), : int(rng.integers(32, 257))]
    while tile.mean(axis=2).std() < _LEAST_DETAIL or is_flat_pattern(tile.mean(axis=2)):
        tile = _detailed(rng)[:200, :200]
    repeats = (int(rng.integers(2, 6)), int(rng.integers(1, 6)))
    tiles = np.tile(tile, (*(repeats if rng.random() < 1 / 2 else repeats[::-1]), 1))
    return _through_jpeg(np.ascontiguousarray(tiles), rng)


def _letterbox(rng: Generator) -> Pixels:
    while True:
        picture = _detailed(rng)
        axis = int(rng.integers(2))
        thickness = max(16, int(picture.shape[axis] * rng.uniform(0.05, 0.5)))
        colour = 0 if rng.random() < _BLACK_BARS else int(rng.integers(256))
        edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
        if min(float((np.abs(edge - float(colour)).max(axis=1) > _VISIBLE).mean()) for edge in edges) > _SEEN_SHARE:
            break
    padding = [(0, 0), (0, 0), (0, 0)]
    padding[axis] = (thickness, thickness)
    return _through_jpeg(np.pad(picture, padding, constant_values=colour), rng)


def _truncated(rng: Generator) -> Pixels:
    while True:
        picture, out = _detailed(rng), io.BytesIO()
        kind = "JPEG" if rng.random() < 2 / 3 else "PNG"
        Image.fromarray(picture).save(out, kind, **({"quality": 90} if kind == "JPEG" else {}))
        data = out.getvalue()
        found = decode_cut(data[: _HEADER_BYTES + int((len(data) - _HEADER_BYTES) * rng.uniform(0.3, 0.9))])
        filling = found[-1].astype(float).mean(axis=0)
        is_missing = (np.abs(found - filling).max(axis=(1, 2)) <= _SAME)[::-1]
        num_missing = int(is_missing.argmin())
        sides = (picture[:-num_missing, 0], picture[:-num_missing, -1]) if num_missing else ()
        is_seen = all(float((np.abs(side - filling).max(axis=1) > _VISIBLE).mean()) > 1 / 2 for side in sides)
        if num_missing >= _LEAST_MISSING * len(found) and is_seen and found.shape == picture.shape:
            was = picture[-num_missing:].astype(float)
            if np.abs(was - filling).max(axis=(1, 2)).mean() > _VISIBLE:
                return found


def decode_cut(data: bytes) -> Pixels:
    """Decode what there is of a file, as tolerant programs do."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


BREAKERS: Mapping[Fault, Callable[[Generator], Pixels]] = {
    "blank": _blank,
    "near_constant": _near_constant,
    "noise": _noise,
    "tiled": _tiled,
    "letterbox": _letterbox,
    "truncated": _truncated,
}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", type=int, default=10_000)
    parser.add_argument("--broken", type=int, default=1_000)
    options = parser.parse_args()
    failed: dict[str, int] = {}
    for pixels in whole_pictures(1, options.whole):
        for fault, evidence in find_faults(pixels).items():
            failed[fault] = failed.get(fault, 0) + (evidence >= 1 / 2)
    print(json.dumps({"whole": options.whole, "failed": sum(failed.values()), "by": failed}), flush=True)
    for fault in BREAKERS:
        found = [max(find_faults(pixels).values()) for pixels in broken_pictures(fault, 2, options.broken)]
        print(json.dumps({"broken": fault, "found": sum(each >= 1 / 2 for each in found) / len(found)}), flush=True)
    picture = np.asarray(_photograph(Path(skimage.data.__file__).with_name("astronaut.png")))
    seconds = []
    for _ in range(200):
        start = time.thread_time()
        find_faults(picture)
        seconds.append(time.thread_time() - start)
    print(json.dumps({"512_px_ms": round(float(np.median(seconds)) * 1000, 3)}))


if __name__ == "__main__":
    main()
