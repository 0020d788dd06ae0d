"""Pixels for question-answering scorers: padded to a square, so that nothing of the image is cut away.

As LLaVA-1.5 and CLIP-FlanT5 do it (arXiv:2404.01291): the image sits in the middle of a square of the tower's mean
colour, which is resized with Pillow's bicubic filter on uint8. Pillow filters the rows first and rounds in between;
thin strips, whose square would dwarf them, are taken through the same two steps without making the square.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from plumbline_models.core.arrays import FittedPixels, Pixels
from plumbline_models.core.errors import ImageTooLargeError
from plumbline_models.images.strip import shrink_padded

MAX_SIDE_PX = 1 << 16
_MAX_SQUARE_PX = 1 << 25
_MAX_GROWTH = 2
"""A square of fewer pixels than this, or than this many times the image's own, is made."""


def mean_fill(mean: Sequence[float]) -> tuple[int, int, int]:
    """The tower's mean colour (channels in 0..1) as uint8, rounded down as the published programs do."""
    red, green, blue = (int(channel * 255) for channel in mean)
    return red, green, blue


def pad_square(pixels: Pixels, size_px: int, fill: tuple[int, int, int]) -> FittedPixels:
    """Pad an image to a square and resize it.

    Args:
        pixels: `[H, W, 3]` RGB, at least 1 by 1.
        size_px: Side of the result.
        fill: Colour of the padding.

    Returns:
        `[size_px, size_px, 3]` uint8, the image centred; an odd line of padding goes to the right or the bottom.

    Raises:
        ImageTooLargeError: A side is longer than 65536 pixels.
    """
    height, width = pixels.shape[:2]
    side = max(height, width)
    if side > MAX_SIDE_PX:
        raise ImageTooLargeError(f"A side of the image is longer than {MAX_SIDE_PX} pixels.", side_px=side)
    if side * side <= max(_MAX_SQUARE_PX, _MAX_GROWTH * height * width):
        square = Image.fromarray(_pad(pixels, side, fill))
        return np.asarray(square.resize((size_px, size_px), Image.Resampling.BICUBIC))
    if width > height:
        narrow = Image.fromarray(pixels).resize((size_px, height), Image.Resampling.BICUBIC)
        columns = shrink_padded(np.asarray(narrow).swapaxes(0, 1), side, size_px, fill)
        return np.ascontiguousarray(columns.swapaxes(0, 1))
    rows = Image.fromarray(shrink_padded(pixels, side, size_px, fill))
    return np.asarray(rows.resize((size_px, size_px), Image.Resampling.BICUBIC))


def _pad(pixels: Pixels, side: int, fill: tuple[int, int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = fill
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
