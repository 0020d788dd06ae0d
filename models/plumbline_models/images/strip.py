"""Padding and shrinking a thin strip along one axis without making the padding.

A picture one pixel wide and sixty thousand high, padded to a square, would take gigabytes, all of one colour. Here the
arithmetic of Pillow's 8-bit resampling is done on the strip alone: weights in double precision, normalised, rounded to
22 fractional bits; what they give to padding is one number for each position. The sums are of whole numbers that double
precision holds exactly, so the result is bit for bit that of Pillow on the padded picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Pixels

_PRECISION_BITS = 22  # what is left of 32 after 8 for the sample and 2 for overshoot
_CUBIC_A = -0.5  # Keys, 1981; the value that Pillow uses
_SUPPORT = 2.0  # of the cubic, in pixels of the coarser grid
_CHUNK_LINES = 4096


@dataclass(frozen=True, slots=True)
class _Position:
    """One pixel of the result: a run of the strip's pixels, their weights, and the weight of all padding."""

    first: int
    weights: NDArray[np.float64]
    padding_weight: float


def shrink_padded(strip: Pixels, side: int, size_px: int, fill: tuple[int, int, int]) -> Pixels:
    """Pad the second axis to `side`, the strip in its middle, and resize it with Pillow's bicubic filter.

    Args:
        strip: `[lines, L, 3]`, L at most `side`.
        side: Length of the padded axis; odd padding has its longer part behind.
        size_px: Length of the result's second axis.
        fill: Colour of the padding.

    Returns:
        `[lines, size_px, 3]` uint8.
    """
    length = strip.shape[1]
    shrunk = np.empty((strip.shape[0], size_px, 3), dtype=np.uint8)
    shrunk[:] = fill  # weights of padding alone sum to one but for a rounding that never shows
    colour = np.array(fill, dtype=np.float64)
    for index in range(size_px):
        position = _weigh(index, length, side, size_px=size_px)
        if position is None:
            continue
        base = colour * position.padding_weight + (1 << (_PRECISION_BITS - 1))
        run = slice(position.first, position.first + len(position.weights))
        for start in range(0, len(strip), _CHUNK_LINES):
            lines = slice(start, start + _CHUNK_LINES)
            sums = np.einsum("lkc,k->lc", strip[lines, run].astype(np.float64), position.weights) + base
            shrunk[lines, index] = np.clip(sums.astype(np.int64) >> _PRECISION_BITS, 0, 255)
    return shrunk


def _weigh(index: int, length: int, side: int, *, size_px: int) -> _Position | None:
    """The weights of one position; None where it sees padding only."""
    start, scale = (side - length) // 2, side / size_px
    stretch = max(scale, 1.0)
    centre, support = (index + 0.5) * scale, _SUPPORT * stretch
    begin = max(int(centre - support + 0.5), 0)
    end = min(int(centre + support + 0.5), side)
    first, last = max(begin, start), min(end, start + length)
    if first >= last:
        return None
    raw = _cubic(np.abs((np.arange(begin, end) - centre + 0.5) * (1.0 / stretch)))
    total = np.cumsum(raw)[-1]  # summed in order, as a loop would
    fixed = np.trunc(raw / total * (1 << _PRECISION_BITS) + np.copysign(0.5, raw))
    own = fixed[first - begin : last - begin]
    return _Position(first - start, own, float(fixed.sum() - own.sum()))


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = ((_CUBIC_A + 2.0) * distance - (_CUBIC_A + 3.0)) * distance * distance + 1.0
    far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * _CUBIC_A
    return np.where(distance < 1.0, near, np.where(distance < _SUPPORT, far, 0.0))
