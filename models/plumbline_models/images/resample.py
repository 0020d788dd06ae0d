"""Resampling of 8-bit pixels, where Pillow's own is not to be had or costs too much.

Pillow resizes whole images. An image one pixel wide and sixty thousand high takes gigabytes when it is enlarged until
its short side is 224 pixels, of which only the centre is kept, or when it is padded to a square. Pillow's `box`
argument does not help: it is single precision, so its weights differ in the last bit. Here the same arithmetic is done
for the wanted positions alone: weights in double precision, normalised, rounded to 22 fractional bits; each pass
rounded to 8 bits. So the result is bit for bit that of Pillow on the whole.

Lanczos is torchvision's, on whose pixels SmolVLM is published. Pillow's filter of that name differs by a level here and
there, since torchvision keeps as many fractional bits as fit into 16 bits with the largest weight; that moves a score
by up to 2e-3 on a tiny network.

Pillow resizes in two passes. Until version 12 it made every image narrow first. Since 13 it makes one low first whose
height shrinks by more than twice as many pixels as its width: images taller than about 2:1, and 9:16 portraits that are
squashed to a square. docs/parity.md says by how much the two orders differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.pieces import between_pieces

Interpolation: TypeAlias = Literal["bicubic", "bilinear"]
LANCZOS_ARITHMETIC: Final = "torchvision's Lanczos, 8 bits, width first"

_Floats: TypeAlias = NDArray[np.float64]
_MAX_BITS: Final = 22  # what is left of 32 after 8 for the sample and 2 for overshoot
_INT16_END: Final = 1 << 15
_CUBIC_A: Final = -0.5  # Keys, 1981; the value that Pillow uses
_CHUNK_LINES: Final = 256  # keeps the sums of a pass in the processor's cache
_PADDED_CHUNK_LINES: Final = 4096
_TALL, _LOW = (64, 16), (8, 8)  # height and width; the height shrinks by 56, the width by 8


def pillow_arithmetic() -> str:
    """Which arithmetic resizes, in a few words, for `GET /v1/models`."""
    order = "height first where it shrinks by over twice as many pixels as the width" if _is_new() else "width first"
    return f"Pillow {PIL.__version__}, 8 bits, {order}"


def is_low_first(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Whether Pillow's first pass changes the height.

    Args:
        size: Height and width.
        resized: The same after.
    """
    return _is_new() and size[0] - resized[0] > 2 * max(size[1] - resized[1], 0)


@cache
def _is_new() -> bool:
    """Found by resizing, for it is what counts, and no version number says it for sure."""
    image = Image.fromarray((np.arange(64 * 16) ** 2 % 251).astype(np.uint8).reshape(_TALL))
    low = image.resize((_TALL[1], _LOW[0]), Image.Resampling.BICUBIC).resize(_LOW, Image.Resampling.BICUBIC)
    return low.tobytes() == image.resize(_LOW, Image.Resampling.BICUBIC).tobytes()


@dataclass(frozen=True, slots=True)
class Window:
    """The rows and columns that are kept of a resized image."""

    top: int
    left: int
    height: int
    width: int


def enlarge_window(pixels: Pixels, resized: tuple[int, int], *, window: Window, interpolation: Interpolation) -> Pixels:
    """Enlarge, and keep a window that lies within the result.

    Only for enlarging: when an image shrinks, Pillow's order of the passes depends on its version.

    Args:
        pixels: `[H, W, 3]`.
        resized: Height and width of the whole result, which is never made; neither is below that of `pixels`.
        window: What is kept.
        interpolation: As Pillow's filter of that name.

    Returns:
        `[window.height, window.width, 3]`, bit for bit the same as Pillow's result cut to the window.
    """
    kernel = _KERNELS[interpolation]
    rows = _Taps.of(pixels.shape[0], resized[0], kernel=kernel, kept=(window.top, window.height))
    columns = _Taps.of(pixels.shape[1], resized[1], kernel=kernel, kept=(window.left, window.width))
    first, last = int(rows.sources.min()), int(rows.sources.max())
    narrow = columns.apply(pixels[first : last + 1].swapaxes(0, 1)).swapaxes(0, 1)
    return np.ascontiguousarray(_Taps(rows.sources - first, rows.weights, rows.num_bits).apply(narrow))


def shrink_padded(strip: Pixels, side: int, *, size_px: int, fill: tuple[int, int, int]) -> Pixels:
    """Pad the second axis of a thin strip and shrink it with Pillow's bicubic filter, without making the padding.

    Padding is all of one colour: what the weights give to it is one number per position.

    Args:
        strip: `[lines, L, 3]`, L at most `side`.
        side: Length of the padded axis, the strip in its middle; odd padding has its longer part behind.
        size_px: Length of the result's second axis.
        fill: Colour of the padding.

    Returns:
        `[lines, size_px, 3]` uint8, bit for bit that of Pillow on the padded image.
    """
    taps = _Taps.of(side, size_px, kernel=_BICUBIC)
    places = taps.sources - (side - strip.shape[1]) // 2
    is_own = (places >= 0) & (places < strip.shape[1])
    shrunk = np.empty((strip.shape[0], size_px, 3), dtype=np.uint8)
    shrunk[:] = fill  # weights of padding alone sum to one but for a rounding that never shows
    for index in np.flatnonzero(is_own.any(axis=1)):
        own, weights = places[index, is_own[index]], taps.weights[index, is_own[index]].astype(np.float64)
        padding = taps.weights[index, ~is_own[index]].sum(dtype=np.int64)
        base = np.array(fill, dtype=np.float64) * padding + (1 << (_MAX_BITS - 1))
        for start in range(0, len(strip), _PADDED_CHUNK_LINES):
            between_pieces()
            lines = slice(start, start + _PADDED_CHUNK_LINES)
            # Whole numbers that double precision holds exactly, in whatever order they are summed.
            sums = np.einsum("lkc,k->lc", strip[lines, own[0] : own[-1] + 1].astype(np.float64), weights) + base
            shrunk[lines, index] = np.clip(sums.astype(np.int64) >> _MAX_BITS, 0, 255)
    return shrunk


def resize_lanczos(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize an image as torchvision's Lanczos filter does.

    Args:
        pixels: `[H, W, 3]`, at least 1 by 1.
        height: Of the result, in pixels.
        width: Of the result, in pixels.

    Returns:
        `[height, width, 3]`.
    """
    if pixels.shape[1] != width:
        columns = _Taps.of(pixels.shape[1], width, kernel=_LANCZOS)
        pixels = columns.apply(np.ascontiguousarray(pixels.swapaxes(0, 1))).swapaxes(0, 1)
    pixels = np.ascontiguousarray(pixels)
    return pixels if len(pixels) == height else _Taps.of(len(pixels), height, kernel=_LANCZOS).apply(pixels)


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A filter: its weight at a distance in pixels of the coarser grid, and the distance from which there is none."""

    weigh: Callable[[_Floats], _Floats]
    radius: float
    fits_int16: bool = False


@dataclass(frozen=True, slots=True)
class _Taps:
    """For each kept position of a resized axis, `[P, K]`: which old positions are summed, and by what weights."""

    sources: NDArray[np.int64]
    """Beyond the last old position where a position has fewer than K; the weight there is 0."""
    weights: NDArray[np.int32]
    num_bits: int
    """Fractional bits of the weights."""

    @classmethod
    def of(cls, old: int, new: int, *, kernel: _Kernel, kept: tuple[int, int] | None = None) -> "_Taps":
        """Weigh an axis.

        Args:
            old: Its length.
            new: Its length when it is resized.
            kernel: The filter.
            kept: The first new position that is wanted and their number; all by default.
        """
        first, count = kept or (0, new)
        scale = old / new
        stretch = max(scale, 1.0)
        centres = (np.arange(first, first + count) + 0.5) * scale
        begins = np.maximum((centres - kernel.radius * stretch + 0.5).astype(np.int64), 0)
        ends = np.minimum((centres + kernel.radius * stretch + 0.5).astype(np.int64), old)
        sources = begins[:, np.newaxis] + np.arange(int((ends - begins).max()))
        raw = kernel.weigh(np.abs((sources - centres[:, np.newaxis] + 0.5) * (1.0 / stretch)))
        raw[sources >= ends[:, np.newaxis]] = 0.0
        exact = raw / np.cumsum(raw, axis=1)[:, -1:]  # summed in order, as a loop would
        num_bits = _bits_of_int16(float(exact.max())) if kernel.fits_int16 else _MAX_BITS
        fixed = exact * (1 << num_bits)
        return cls(sources, (fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int32), num_bits)

    def apply(self, pixels: Pixels) -> Pixels:
        """Resize the first axis, in chunks of lines."""
        sources = np.minimum(self.sources, len(pixels) - 1)
        resampled = np.empty((len(sources), *pixels.shape[1:]), dtype=np.uint8)
        for start in range(0, len(sources), _CHUNK_LINES):
            between_pieces()
            lines = slice(start, start + _CHUNK_LINES)
            sums = np.full(resampled[lines].shape, 1 << (self.num_bits - 1), dtype=np.int32)
            for tap in range(sources.shape[1]):
                sums += pixels[sources[lines, tap]] * self.weights[lines, tap, np.newaxis, np.newaxis]
            resampled[lines] = np.clip(sums >> self.num_bits, 0, 255)
        return resampled


def _bits_of_int16(largest: float) -> int:
    """As many fractional bits as the largest weight leaves of 16."""
    return next(
        bits for bits in range(_MAX_BITS + 1) if bits == _MAX_BITS or int(0.5 + largest * (2 << bits)) >= _INT16_END
    )


def _weigh_bilinear(distance: _Floats) -> _Floats:
    return np.where(distance < 1, 1 - distance, 0.0)


def _weigh_bicubic(distance: _Floats) -> _Floats:
    near = ((_CUBIC_A + 2) * distance - (_CUBIC_A + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * _CUBIC_A
    return np.where(distance < 1, near, np.where(distance < _BICUBIC.radius, far, 0.0))


def _weigh_lanczos(distance: _Floats) -> _Floats:
    near = np.sinc(distance) * np.sinc(distance / _LANCZOS.radius)
    return np.where(distance < _LANCZOS.radius, near, 0.0)


_BICUBIC: Final = _Kernel(_weigh_bicubic, radius=2.0)
_LANCZOS: Final = _Kernel(_weigh_lanczos, radius=3.0, fits_int16=True)
_KERNELS: Final[dict[Interpolation, _Kernel]] = {"bilinear": _Kernel(_weigh_bilinear, radius=1.0), "bicubic": _BICUBIC}
