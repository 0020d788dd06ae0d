"""Pixels for question-answering scorers: padded to a square, so that nothing of the image is cut away.

As LLaVA-1.5 and CLIP-FlanT5 do it (arXiv:2404.01291): the image sits in the middle of a square of the tower's mean
colour, which is resized with Pillow's bicubic filter on uint8. Pillow makes a square narrow first, rounds, and then
makes it low. A large square is taken through the same two steps in bands of rows, so that it is never made: that of an
image of 5000 x 10000 pixels would take 0.7 GB. Thin strips, whose square would dwarf them, are not even padded by rows.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from plumbline_models.core.arrays import Pixels, ResizedPixels
from plumbline_models.images.size import check_sides
from plumbline_models.images.strip import shrink_padded

_MAX_SQUARE_PX = 1 << 22  # a square of more pixels is not made
_BAND_PX = 1 << 20
_MAX_BANDS_PX = 1 << 25
_MAX_GROWTH = 2
"""A square of fewer pixels than the former, or than this many times the image's own, is gone through in bands."""


def mean_fill(mean: Sequence[float]) -> tuple[int, int, int]:
    """The tower's mean colour (channels in 0..1) as uint8, rounded down as the published programs do."""
    red, green, blue = (int(channel * 255) for channel in mean)
    return red, green, blue


def pad_square(pixels: Pixels, size_px: int, fill: tuple[int, int, int]) -> ResizedPixels:
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
    check_sides(width, height)
    if side * side <= _MAX_SQUARE_PX:
        return _resize(_pad(pixels, (side, side), fill), (size_px, size_px))
    if side * side <= max(_MAX_BANDS_PX, _MAX_GROWTH * height * width):
        return _pad_in_bands(pixels, size_px, fill)
    if width > height:
        columns = shrink_padded(_resize(pixels, (height, size_px)).swapaxes(0, 1), side, size_px, fill)
        return np.ascontiguousarray(columns.swapaxes(0, 1))
    return _resize(shrink_padded(pixels, side, size_px, fill), (size_px, size_px))


def _pad_in_bands(pixels: Pixels, size_px: int, fill: tuple[int, int, int]) -> ResizedPixels:
    height, width = pixels.shape[:2]
    side = max(height, width)
    narrow = np.empty((height, size_px, 3), dtype=np.uint8)
    num_rows = max(1, _BAND_PX // side)
    for top in range(0, height, num_rows):
        band = pixels[top : top + num_rows]
        narrow[top : top + num_rows] = _resize(_pad(band, (len(band), side), fill), (len(band), size_px))
    return _resize(_pad(narrow, (side, size_px), fill), (size_px, size_px))


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _pad(pixels: Pixels, size: tuple[int, int], fill: tuple[int, int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    padded = np.empty((*size, 3), dtype=np.uint8)
    padded[:] = fill
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padded[top : top + height, left : left + width] = pixels
    return padded
