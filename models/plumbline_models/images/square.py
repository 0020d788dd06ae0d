"""Pixels for question-answering scorers: an image padded or cropped to a square, and resized.

Padding is that of LLaVA-1.5 and CLIP-FlanT5 (arXiv:2404.01291): the image sits in the middle of a square of the tower's
mean colour, which is resized with Pillow's bicubic filter on uint8. Pillow makes a square narrow first, rounds, and
then makes it low. A large square is taken through the same two steps in bands of rows, so that it is never made: that
of an image of 5000 x 10000 pixels would take 0.7 GB. Thin strips, whose square would dwarf them, are not even padded
by rows.

Cropping is that of the CLIP image processor of the transformers library: the short side becomes the tower's, the long
side is rounded down, and the cut begins at half of the rest, rounded down (open_clip's `shortest` rounds to even
there). Of long strips only what is kept is resized, height and width in the order that Pillow would take on the whole;
one pixel in thousands then differs by one level.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from plumbline_models.core.arrays import Pixels, ResizedPixels
from plumbline_models.images.pieces import between_pieces
from plumbline_models.images.resample import is_low_first, shrink_padded
from plumbline_models.images.size import check_sides

_MAX_SQUARE_PX = 1 << 22  # a square of more pixels is not made
_BAND_PX = 1 << 20
_MAX_BANDS_PX = 1 << 25
_MAX_GROWTH = 2
"""A square of fewer pixels than the former, or than this many times the image's own, is gone through in bands."""
_MAX_WASTE = 16  # share of resized pixels thrown away, above which only the kept ones are computed
_SUPPORT = 2.0  # Pillow's bicubic filter reaches two pixels of the coarser grid to either side


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
        low = _resize(pixels, (height, size_px)).swapaxes(0, 1)
        return np.ascontiguousarray(shrink_padded(low, side, size_px=size_px, fill=fill).swapaxes(0, 1))
    return _resize(shrink_padded(pixels, side, size_px=size_px, fill=fill), (size_px, size_px))


def crop_square(pixels: Pixels, size_px: int) -> ResizedPixels:
    """Resize the short side and keep the centre.

    Args:
        pixels: `[H, W, 3]` RGB, at least 1 by 1.
        size_px: Side of the result.

    Returns:
        `[size_px, size_px, 3]` uint8, contiguous.
    """
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(_crop_longer(pixels, size_px, axis=0 if height > width else 1))


def _pad_in_bands(pixels: Pixels, size_px: int, fill: tuple[int, int, int]) -> ResizedPixels:
    height, width = pixels.shape[:2]
    side = max(height, width)
    narrow = np.empty((height, size_px, 3), dtype=np.uint8)
    num_rows = max(1, _BAND_PX // side)
    for top in range(0, height, num_rows):
        between_pieces()
        band = pixels[top : top + num_rows]
        narrow[top : top + num_rows] = _resize(_pad(band, (len(band), side), fill), (len(band), size_px))
    return _resize(_pad(narrow, (side, size_px), fill), (size_px, size_px))


def _pad(pixels: Pixels, size: tuple[int, int], fill: tuple[int, int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    padded = np.empty((*size, 3), dtype=np.uint8)
    padded[:] = fill
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padded[top : top + height, left : left + width] = pixels
    return padded


def _crop_longer(pixels: Pixels, size_px: int, *, axis: int) -> Pixels:
    """Crop an image whose axis `axis` is the longer one."""
    long, short = pixels.shape[axis], pixels.shape[1 - axis]
    new_long = int(size_px * long / short)
    first = (new_long - size_px) // 2
    size = (new_long, size_px) if axis == 0 else (size_px, new_long)
    if new_long <= _MAX_WASTE * size_px:
        return _resize(pixels, size).take(range(first, first + size_px), axis=axis)
    scale = long / new_long
    support = _SUPPORT * max(scale, 1.0)
    low, high = first * scale, (first + size_px) * scale
    first_in, last_in = max(0, math.floor(low - support)), min(long, math.ceil(high + support))
    part = pixels.take(range(first_in, last_in), axis=axis)
    spans = {axis: (low - first_in, high - first_in), 1 - axis: (0.0, float(short))}
    for each in (0, 1) if is_low_first(pixels.shape[:2], size) else (1, 0):
        part = _resize_axis(part, size_px, span=spans[each], axis=each)
    return part


def _resize_axis(pixels: Pixels, length: int, *, span: tuple[float, float], axis: int) -> Pixels:
    """Resize one axis, from a span of it, and leave the other alone."""
    height, width = pixels.shape[:2]
    if axis == 0:
        return _resize(pixels, (length, width), box=(0.0, span[0], float(width), span[1]))
    return _resize(pixels, (height, length), box=(span[0], 0.0, span[1], float(height)))


def _resize(pixels: Pixels, size: tuple[int, int], *, box: tuple[float, float, float, float] | None = None) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
