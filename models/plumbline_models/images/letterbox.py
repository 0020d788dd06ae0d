"""The whole image inside a square with black bars, as float samples: how HPSv2 prepares its images.

Wu et al., "Human Preference Score v2", arXiv:2306.09341, and its program's `image_transform`. The image becomes floats
first and is resized after, so that samples over- and undershoot [0, 1], which uint8 pixels cannot. The program leaves
antialiasing to torchvision, which turned it on by default in version 0.17: `antialias=False` gives what the program
gave before. With it the filter is Pillow's bicubic (a = -1/2, widened where the image shrinks); without it, four taps
whatever the reduction (a = -3/4), those beyond an edge taken from it.

We differ where the program fails: an image whose longest side has the wanted length already is padded as any other.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import LetterboxedPixels, Pixels
from plumbline_models.core.errors import ImageTooSmallError
from plumbline_models.images.pieces import between_pieces

_BAND_PX = 1 << 20  # source pixels that are floats at a time
_SHARP_A = -0.75  # of torch's kernel without antialiasing
_NUM_TAPS = 4


def letterbox(pixels: Pixels, size_px: int, *, antialias: bool) -> LetterboxedPixels:
    """Resize an image until its longest side fits, and centre it in a black square.

    Args:
        pixels: `[H, W, 3]`.
        size_px: Side of the square.
        antialias: Whether an image that shrinks is smoothed first.

    Returns:
        `[size_px, size_px, 3]` float32, about 0 to 1 and not clamped; 0 where there is no image.

    Raises:
        ImageTooSmallError: Resized in proportion, a side would have no pixel left.
    """
    height, width = pixels.shape[:2]
    scale = size_px / max(height, width)
    resized = round(height * scale), round(width * scale)
    if min(resized) < 1:
        raise ImageTooSmallError("The image is too narrow to be resized.", height=height, width=width)
    top, left = (size_px - resized[0]) // 2, (size_px - resized[1]) // 2
    boxed = np.zeros((size_px, size_px, 3), dtype=np.float32)
    kept = boxed[top : top + resized[0], left : left + resized[1]]
    if resized == (height, width):
        kept[:] = pixels
    elif antialias:
        _resize_smooth(pixels, kept)
    else:
        kept[:] = _resize_sharp(pixels, resized)
    boxed /= np.float32(255)
    return boxed


def _resize_smooth(pixels: Pixels, resized: NDArray[np.float32]) -> None:
    """Pillow's float arithmetic, in bands, since a float image is twelve times as large as its pixels."""
    height, width = resized.shape[:2]
    num_rows = max(1, _BAND_PX // pixels.shape[1])
    for channel in range(3):
        narrow = np.empty((len(pixels), width), dtype=np.float32)
        for top in range(0, len(pixels), num_rows):
            between_pieces()
            band = np.ascontiguousarray(pixels[top : top + num_rows, :, channel], dtype=np.float32)
            narrow[top : top + num_rows] = _resize_plane(band, (len(band), width))
        resized[..., channel] = _resize_plane(narrow, (height, width))


def _resize_plane(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    image = Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def _resize_sharp(pixels: Pixels, resized: tuple[int, int]) -> NDArray[np.float64]:
    rows, row_weights = _sharp_taps(pixels.shape[0], resized[0])
    columns, column_weights = _sharp_taps(pixels.shape[1], resized[1])
    low = np.zeros((resized[0], pixels.shape[1], 3))
    for tap in range(_NUM_TAPS):
        between_pieces()
        low += pixels[rows[tap]] * row_weights[tap, :, np.newaxis, np.newaxis]
    narrow = np.zeros((*resized, 3))
    for tap in range(_NUM_TAPS):
        narrow += low[:, columns[tap]] * column_weights[tap, :, np.newaxis]
    return narrow


def _sharp_taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each new position, `[4, new]`: which old ones are summed, and by what weights."""
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centres).astype(np.int64) - 1
    sources = first + np.arange(_NUM_TAPS)[:, np.newaxis]
    distance = np.abs(centres - sources)
    near = ((_SHARP_A + 2) * distance - (_SHARP_A + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * _SHARP_A
    return np.clip(sources, 0, old - 1), np.where(distance <= 1, near, far)
