"""Pixels for causal question-answering networks: each family resizes images in its own way.

The sizes are those that the families' published processors come to, the filters on uint8, rounded after each resize
as there. Normalised inside the graph.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageError
from plumbline_models.images.resample import LANCZOS_ARITHMETIC, pillow_arithmetic, resize_lanczos
from plumbline_models.images.size import check_sides
from plumbline_models.images.square import pad_square

MAX_ASPECT: Final = 200
_MAX_SIDE_PX: Final = 4096


@dataclass(frozen=True, slots=True)
class ResizedImage:
    """One image as one or more tiles of one size."""

    tiles: NDArray[np.uint8]
    """`[T, H, W, 3]`"""
    grid: tuple[int, int]
    """Rows and columns: of tiles, of which a small copy of the whole image is the last; (0, 0) for one alone."""


class PixelPolicy(Protocol):
    """How a family resizes images."""

    def preprocess(self, pixels: Pixels) -> ResizedImage:
        """Resize, pad or cut.

        Raises:
            ImageError: The image has a shape that the family does not take.
        """
        ...

    @property
    def resize(self) -> str:
        """By which arithmetic, for `GET /v1/models`."""
        ...

    def __str__(self) -> str:
        """In a few words, for `GET /v1/models`."""
        ...


@dataclass(frozen=True, slots=True)
class PaddedSquare:
    """LLaVA-1.5 as VQAScore feeds it: padded to a square. The usual port of the network crops the centre instead."""

    size_px: int
    fill: tuple[int, int, int]

    def preprocess(self, pixels: Pixels) -> ResizedImage:
        """One tile."""
        return ResizedImage(pad_square(pixels, self.size_px, self.fill)[None], (0, 0))

    @property
    def resize(self) -> str:
        """By which arithmetic."""
        return pillow_arithmetic()

    def __str__(self) -> str:
        """In a few words."""
        return f"pad, {self.size_px} px"


@dataclass(frozen=True, slots=True)
class WholePatches:
    """Qwen: both sides become multiples of a patch, in about the image's own size, within bounds."""

    factor_px: int
    min_pixels: int
    max_pixels: int

    def preprocess(self, pixels: Pixels) -> ResizedImage:
        """One tile, whose grid counts tokens of the image as the language model sees them."""
        height, width = self.size_of(pixels.shape[0], pixels.shape[1])
        grid = (height // self.factor_px, width // self.factor_px)
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        return ResizedImage(np.asarray(resized)[None], grid)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the resized image.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Raises:
            ImageError: One side is more than 200 times the other.
        """
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise ImageError(f"One side of the image is more than {MAX_ASPECT} times the other.", size=(height, width))
        step = self.factor_px
        rows, columns = round(height / step), round(width / step)
        if rows * columns * step**2 > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows, columns = (max(1, math.floor(side / shrink / step)) for side in (height, width))
        elif rows * columns * step**2 < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = (math.ceil(side * grow / step) for side in (height, width))
        return rows * step, columns * step

    @property
    def resize(self) -> str:
        """By which arithmetic."""
        return pillow_arithmetic()

    def __str__(self) -> str:
        """In a few words."""
        return f"multiples of {self.factor_px} px, {self.min_pixels} to {self.max_pixels} pixels"


@dataclass(frozen=True, slots=True)
class Tiles:
    """SmolVLM: enlarged or shrunk to a given longest side, then cut into square tiles, a small whole one last."""

    longest_px: int
    tile_px: int
    is_split: bool

    def preprocess(self, pixels: Pixels) -> ResizedImage:
        """Tiles row by row, then the whole; or the whole alone.

        Raises:
            ImageTooLargeError: A side is longer than 65536 pixels.
        """
        check_sides(pixels.shape[1], pixels.shape[0])
        height, width = _longest(pixels.shape[0], pixels.shape[1], longest_px=self.longest_px)
        whole = resize_lanczos(pixels, height, width)
        if self.is_split:
            height, width = _round_up(height, width, self.tile_px)
            whole = resize_lanczos(whole, height, width)
        rows, columns = height // self.tile_px, width // self.tile_px
        small = resize_lanczos(whole, self.tile_px, self.tile_px)
        if not self.is_split or rows * columns == 1:
            return ResizedImage(small[None], (0, 0))
        cut = whole.reshape(rows, self.tile_px, columns, self.tile_px, 3).swapaxes(1, 2)
        return ResizedImage(np.concatenate([cut.reshape(-1, *small.shape), small[None]]), (rows, columns))

    @property
    def resize(self) -> str:
        """By which arithmetic."""
        return LANCZOS_ARITHMETIC

    def __str__(self) -> str:
        """In a few words."""
        cut = f"cut into tiles of {self.tile_px} px" if self.is_split else f"then squashed to {self.tile_px} px"
        return f"longest side {self.longest_px} px, {cut}"


def _longest(height: int, width: int, *, longest_px: int) -> tuple[int, int]:
    """In proportion; the shorter side is made even."""
    longest = min(longest_px, _MAX_SIDE_PX)
    if width >= height:
        short = int(longest / (width / height))
        return max(1, short + short % 2), longest
    short = int(longest * (width / height))
    return longest, max(1, short + short % 2)


def _round_up(height: int, width: int, step: int) -> tuple[int, int]:
    """To multiples of a tile: the longer side first, the shorter in proportion to it."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / step) * step
        return math.ceil(int(width / ratio) / step) * step, width
    height = math.ceil(height / step) * step
    return height, math.ceil(int(height * ratio) / step) * step
