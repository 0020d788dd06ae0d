"""A part of an enlarged image, without the rest of it.

Pillow resizes whole images. A picture one pixel wide and sixty thousand high, enlarged until its short side is 224
pixels, would take gigabytes, and only its centre is kept. Pillow's own `box` argument is no way out: it is single
precision, so its weights differ in the last bit. Here the same arithmetic as Pillow's 8-bit resampling is done for
the wanted rows and columns alone: weights in double precision, rounded to 22 fractional bits, columns first, each
pass rounded to 8 bits. Only for enlarging: when it shrinks, Pillow's order of the passes depends on its version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Pixels

Interpolation: TypeAlias = Literal["bicubic", "bilinear"]

_Floats: TypeAlias = NDArray[np.float64]
_Ints: TypeAlias = NDArray[np.int64]

_PRECISION_BITS = 22  # what is left of 32 after 8 for the sample and 2 for overshoot
_CUBIC_A = -0.5  # Keys, 1981; the value that Pillow uses
_CUBIC_RADIUS = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """The rows and columns that are kept of a resized image."""

    top: int
    left: int
    height: int
    width: int


def enlarge_window(pixels: Pixels, resized: tuple[int, int], *, window: Window, interpolation: Interpolation) -> Pixels:
    """Enlarge, and keep a window that lies within the result.

    Args:
        pixels: `[H, W, 3]`.
        resized: Height and width of the whole result, which is never made; neither is below that of `pixels`.
        window: What is kept.
        interpolation: As Pillow's filter of that name.

    Returns:
        `[window.height, window.width, 3]`, bit for bit the same as Pillow's result cut to the window.
    """
    height, width = pixels.shape[:2]
    rows = _Taps.of(height, resized[0], window.top, window.height, interpolation=interpolation)
    columns = _Taps.of(width, resized[1], window.left, window.width, interpolation=interpolation)
    first, last = int(rows.sources.min()), int(rows.sources.max())
    narrowed = columns.apply(pixels[first : last + 1].swapaxes(0, 1)).swapaxes(0, 1)
    return np.ascontiguousarray(_Taps(rows.sources - first, rows.weights).apply(narrowed))


@dataclass(frozen=True, slots=True)
class _Taps:
    """For each kept position, `[P, K]`: which source positions are summed, and with what fixed-point weights."""

    sources: _Ints
    weights: _Ints

    @classmethod
    def of(cls, old: int, new: int, first: int, count: int, *, interpolation: Interpolation) -> "_Taps":
        weigh, radius = _FILTERS[interpolation]
        centres = (np.arange(first, first + count) + 0.5) * (old / new)
        begins = np.maximum((centres - radius + 0.5).astype(np.int64), 0)
        ends = np.minimum((centres + radius + 0.5).astype(np.int64), old)
        sources = begins[:, np.newaxis] + np.arange(int((ends - begins).max()))
        raw = weigh(np.abs(sources - centres[:, np.newaxis] + 0.5))
        raw[sources >= ends[:, np.newaxis]] = 0.0
        total = np.cumsum(raw, axis=1)[:, -1:]  # summed in order, as a loop would
        fixed = raw / total * (1 << _PRECISION_BITS)
        weights = (fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int64)
        return cls(np.minimum(sources, old - 1), weights)

    def apply(self, pixels: Pixels) -> Pixels:
        sums = np.full((len(self.sources), *pixels.shape[1:]), 1 << (_PRECISION_BITS - 1), dtype=np.int64)
        for tap in range(self.sources.shape[1]):
            sums += pixels[self.sources[:, tap]] * self.weights[:, tap, np.newaxis, np.newaxis]
        rounded: _Ints = np.clip(sums >> _PRECISION_BITS, 0, 255)
        return rounded.astype(np.uint8)


def _weigh_bilinear(distance: _Floats) -> _Floats:
    return np.where(distance < 1, 1 - distance, 0.0)


def _weigh_bicubic(distance: _Floats) -> _Floats:
    near = ((_CUBIC_A + 2) * distance - (_CUBIC_A + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * _CUBIC_A
    return np.where(distance < 1, near, np.where(distance < _CUBIC_RADIUS, far, 0.0))


_FILTERS: dict[Interpolation, tuple[Callable[[_Floats], _Floats], float]] = {
    "bilinear": (_weigh_bilinear, 1.0),
    "bicubic": (_weigh_bicubic, _CUBIC_RADIUS),
}
