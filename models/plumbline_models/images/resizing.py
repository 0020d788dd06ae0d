"""Which arithmetic resizes images: that of the Pillow that is installed, named so that numbers can be compared.

Pillow resizes in two passes and rounds to 8 bits in between. Until version 12 it made every image narrow first. Since
13 it makes one low first whose height shrinks by more than twice as many pixels as its width: images taller than about
2:1, and 9:16 portraits that are squashed to a square. docs/parity.md says by how much the two ways differ.
"""

from functools import cache

import numpy as np
import PIL
from PIL import Image

_TALL, _LOW = (64, 16), (8, 8)  # height and width; the height shrinks by 56, the width by 8


def pillow_arithmetic() -> str:
    """In a few words, for `GET /v1/models`."""
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
