"""Which arithmetic resizes, under the Pillow that constraints.txt names: stored values of tall images and portraits.

The values were computed by Pillow 13.0.0 alone. Pillow 12 gives others: a new Pillow that fails here moves scores, and
docs/parity.md and the changelog have to say by how much.
"""

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.resample import is_low_first, pillow_arithmetic
from plumbline_models.images.square import crop_square, pad_square
from plumbline_models.networks.causal.pixels import Tiles, WholePatches

CONSTRAINTS = (Path(__file__).parents[3] / "constraints.txt").read_text()
PINNED = re.findall(r"^pillow==(.*)$", CONSTRAINTS, re.MULTILINE)[0]
TALL, PORTRAIT, SCROLL = (700, 200), (640, 360), (9000, 300)

WAYS: dict[str, Callable[[Pixels], Pixels]] = {
    "shortest": lambda pixels: preprocess_pixels(pixels, PreprocessSpec((64, 64))),
    "squash": lambda pixels: preprocess_pixels(pixels, PreprocessSpec((224, 224), "squash")),
    "longest": lambda pixels: preprocess_pixels(pixels, PreprocessSpec((64, 64), "longest", "bilinear")),
    "pad": lambda pixels: pad_square(pixels, 56, (122, 116, 104)),
    "crop": lambda pixels: crop_square(pixels, 64),
    "patches": lambda pixels: WholePatches(28, 3136, 18816).preprocess(pixels).tiles,
    "tiles": lambda pixels: Tiles(224, 56, is_split=True).preprocess(pixels).tiles,
}
STORED = {
    ("shortest", TALL): 652805963,
    ("shortest", PORTRAIT): 3481111401,
    ("shortest", SCROLL): 2071929011,
    ("squash", TALL): 4243229535,
    ("squash", PORTRAIT): 1842639244,
    ("squash", SCROLL): 2134230995,
    ("longest", TALL): 2499868389,
    ("longest", PORTRAIT): 2445180682,
    ("pad", TALL): 3275007855,
    ("pad", PORTRAIT): 3275501858,
    ("crop", TALL): 652805963,
    ("crop", PORTRAIT): 3481111401,
    ("crop", SCROLL): 2071929011,
    ("patches", TALL): 3899105065,
    ("patches", PORTRAIT): 3034351768,
    ("tiles", TALL): 4266779271,
    ("tiles", PORTRAIT): 482849777,
}
"""Checksums of the pixels by way and size."""


def draw(height: int, width: int) -> Pixels:
    """Fine detail, by whole numbers alone."""
    rows, columns, channels = np.ogrid[:height, :width, :3]
    return ((rows * 7919 + columns * 104_729 + (rows * columns) % 251 * 31 + channels * 57) % 256).astype(np.uint8)


def test_the_installed_pillow_is_the_pinned_one_and_is_named() -> None:
    assert PIL.__version__ == PINNED
    assert pillow_arithmetic() == (
        f"Pillow {PINNED}, 8 bits, height first where it shrinks by over twice as many pixels as the width"
    )


@pytest.mark.parametrize(("way", "size"), STORED, ids=str)
def test_pixels_are_those_that_were_stored(way: str, size: tuple[int, int]) -> None:
    assert zlib.crc32(WAYS[way](draw(*size)).tobytes()) == STORED[way, size]


@pytest.mark.parametrize("resized", [(224, 224), (64, 64), (448, 224), (640, 360)], ids=str)
@pytest.mark.parametrize("size", [TALL, PORTRAIT, (1280, 720), (1920, 1080), (500, 500), (200, 700), (60, 20)], ids=str)
def test_pillow_goes_in_the_order_that_is_named(size: tuple[int, int], resized: tuple[int, int]) -> None:
    low, narrow = (resized[0], size[1]), (size[0], resized[1])
    image = Image.fromarray(draw(*size))
    expected = image
    for step in (low if is_low_first(size, resized) else narrow, resized):
        expected = expected.resize(step[::-1], Image.Resampling.BICUBIC)
    assert image.resize(resized[::-1], Image.Resampling.BICUBIC).tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [SCROLL, SCROLL[::-1], (2000, 50)], ids=str)
def test_a_scroll_is_cropped_in_the_order_of_the_whole(size: tuple[int, int]) -> None:
    pixels = draw(*size)
    short = min(size)
    resized = (int(224 * size[0] / short), int(224 * size[1] / short))
    whole = np.asarray(Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.BICUBIC))
    top, left = ((side - 224) // 2 for side in resized)
    difference = np.abs(crop_square(pixels, 224).astype(int) - whole[top : top + 224, left : left + 224])
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < difference.size / 1000
