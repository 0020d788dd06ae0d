"""How long preprocessing of the largest images goes on where nobody waits any more: its longest piece, in CPU time.

python -m loadtests.engine.pieces
"""

import time
from collections.abc import Callable, Mapping

import numpy as np

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.letterbox import letterbox
from plumbline_models.images.pieces import ended_by
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resample import resize_lanczos
from plumbline_models.images.square import crop_square, pad_square

SHAPES = ((7000, 7000), (65_536, 760), (760, 65_536))
LONGEST_PX = 2048
WAYS: Mapping[str, Callable[[Pixels], object]] = {
    "letterbox": lambda pixels: letterbox(pixels, 224, antialias=True),
    "letterbox, sharp": lambda pixels: letterbox(pixels, 224, antialias=False),
    "padded to a square": lambda pixels: pad_square(pixels, 336, (1, 2, 3)),
    "cut to a square": lambda pixels: crop_square(pixels, 336),
    "shortest side": lambda pixels: preprocess_pixels(pixels, PreprocessSpec()),
    "longest side": lambda pixels: preprocess_pixels(pixels, PreprocessSpec(mode="longest")),
    "Lanczos": lambda pixels: resize_lanczos(pixels, *(min(LONGEST_PX, side) for side in pixels.shape[:2])),
}


def measure(work: Callable[[Pixels], object], pixels: Pixels) -> tuple[float, float]:
    """Seconds of CPU time: of all of it, and of its longest piece."""
    ends = [time.thread_time()]
    with ended_by(lambda: ends.append(time.thread_time())):
        work(pixels)
    ends.append(time.thread_time())
    return ends[-1] - ends[0], float(np.diff(ends).max())


def main() -> None:
    """Print a row for each way and shape."""
    print("| | pixels | all, s | longest piece, s |")
    print("| --- | --- | --- | --- |")
    for height, width in SHAPES:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for name, work in WAYS.items():
            whole_s, longest_s = measure(work, pixels)
            print(f"| {name} | {height} x {width} | {whole_s:.2f} | {longest_s:.2f} |", flush=True)


if __name__ == "__main__":
    main()
