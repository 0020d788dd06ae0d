"""Pixels for question-answering scorers whose checkpoint crops instead of padding.

As the CLIP image processor of the Hugging Face library does it: the short side becomes the tower's, the long side is
rounded down, and the cut begins at half of the rest, rounded down (open_clip's `shortest` rounds to even there).
Of long strips only what is kept is resized, height and width in the order that Pillow would take on the whole; a pixel
in thousands then differs by one level.
"""

import math

import numpy as np
from PIL import Image

from plumbline_models.core.arrays import Pixels, ResizedPixels
from plumbline_models.images.resizing import is_low_first

_MAX_WASTE = 16  # share of resized pixels thrown away, above which only the kept ones are computed
_SUPPORT = 2.0  # Pillow's bicubic filter reaches two pixels of the coarser grid to either side


def crop_square(pixels: Pixels, size_px: int) -> ResizedPixels:
    """Resize the short side and keep the centre.

    Args:
        pixels: `[H, W, 3]` RGB, at least 1 by 1.
        size_px: Side of the result.

    Returns:
        `[size_px, size_px, 3]` uint8, contiguous.
    """
    height, width = pixels.shape[:2]
    if height > width:
        return np.ascontiguousarray(_crop_wide(pixels, size_px, axis=0))
    return np.ascontiguousarray(_crop_wide(pixels, size_px, axis=1))


def _crop_wide(pixels: Pixels, size_px: int, *, axis: int) -> Pixels:
    """Crop an image whose axis `axis` is the longer one."""
    long, short = pixels.shape[axis], pixels.shape[1 - axis]
    new_long = int(size_px * long / short)
    first = (new_long - size_px) // 2
    size = (new_long, size_px) if axis == 0 else (size_px, new_long)
    if new_long <= _MAX_WASTE * size_px:
        whole = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
        return whole.take(range(first, first + size_px), axis=axis)
    scale = long / new_long
    support = _SUPPORT * max(scale, 1.0)
    low, high = first * scale, (first + size_px) * scale
    first_in, last_in = max(0, math.floor(low - support)), min(long, math.ceil(high + support))
    part = pixels.take(range(first_in, last_in), axis=axis)
    spans = {axis: (low - first_in, high - first_in), 1 - axis: (0.0, float(short))}
    for each in (0, 1) if is_low_first(pixels.shape[:2], size) else (1, 0):
        part = _resize_axis(part, size_px, spans[each], axis=each)
    return part


def _resize_axis(pixels: Pixels, length: int, span: tuple[float, float], *, axis: int) -> Pixels:
    """Resize one axis, from a span of it, and leave the other alone."""
    height, width = pixels.shape[:2]
    if axis == 0:
        return _resize(pixels, (length, width), (0.0, span[0], float(width), span[1]))
    return _resize(pixels, (height, length), (span[0], 0.0, span[1], float(height)))


def _resize(pixels: Pixels, size: tuple[int, int], box: tuple[float, float, float, float]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
