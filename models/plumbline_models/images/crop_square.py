"""Pixels for question-answering scorers whose checkpoint crops instead of padding.

As the CLIP image processor of the Hugging Face library does it: the short side becomes the tower's, the long side is
rounded down, and the cut begins at half of the rest, rounded down (open_clip's `shortest` rounds to even there).
Of long strips only what is kept is resized; a pixel in thousands then differs by one level.
"""

import math

import numpy as np
from PIL import Image

from plumbline_models.core.arrays import FittedPixels, Pixels

_MAX_WASTE = 16  # share of resized pixels thrown away, above which only the kept ones are computed
_SUPPORT = 2.0  # Pillow's bicubic filter reaches two pixels of the coarser grid to either side


def crop_square(pixels: Pixels, size_px: int) -> FittedPixels:
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
    if new_long <= _MAX_WASTE * size_px:
        return _resize(pixels, new_long, size_px, axis=axis).take(range(first, first + size_px), axis=axis)
    scale = long / new_long
    support = _SUPPORT * max(scale, 1.0)
    low, high = first * scale, (first + size_px) * scale
    first_in, last_in = max(0, math.floor(low - support)), min(long, math.ceil(high + support))
    part = pixels.take(range(first_in, last_in), axis=axis)
    return _resize(part, size_px, size_px, axis=axis, span=(low - first_in, high - first_in))


def _resize(
    pixels: Pixels, long_px: int, short_px: int, *, axis: int, span: tuple[float, float] | None = None
) -> Pixels:
    """Resize `axis` to `long_px` and the other to `short_px`, from a span of `axis` only where one is given."""
    low, high = span or (0.0, float(pixels.shape[axis]))
    short = float(pixels.shape[1 - axis])
    if axis == 1:
        size, box = (long_px, short_px), (low, 0.0, high, short)
    else:
        size, box = (short_px, long_px), (0.0, low, short, high)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))
