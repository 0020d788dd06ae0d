"""Bytes to pixels.

JPEG, PNG, WebP, GIF (first frame), BMP, TIFF (first page) and AVIF, told apart by their first bytes; docs/images.md
says which kinds of each. With `exif_orientation="ignore"` and `alpha="drop"` the result is what Pillow's
`convert("RGB")` gives, which is what the papers' own programs see; only 16-bit grey differs (see `colour`) and what
Pillow reads wrongly (see `samples`). A TIFF's orientation is part of its format: Pillow applies it always, and so do
we.

A file counts as whole when its container says so. Two things that lie within a well-closed container are not
noticed: a JPEG scan that ends early with an end marker, and a PNG whose compressed rows properly end too soon.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageError, ImageTooLargeError, ImageUndecodableError
from plumbline_models.images.colour import to_pixels
from plumbline_models.images.containers import recognise
from plumbline_models.images.file_checks import read_png_exif
from plumbline_models.images.jpeg import read_jpeg
from plumbline_models.images.orientation import find_transpose
from plumbline_models.images.samples import correct_samples
from plumbline_models.images.size import check_size

_FROM_PILLOW = r"PIL\."
_UNKNOWN_KIND = ("unknown pixel mode", "cannot handle", "Unsupported BMP")
"""What Pillow says of files that are sound and of a kind that it does not read."""


@dataclass(frozen=True, slots=True)
class DecodePolicy:
    """How pixels are made of image files, and which files are too large.

    Args:
        exif_orientation: Whether the camera's orientation tag turns the image.
        alpha: Whether transparency is composited on white or dropped.
        max_bytes: Of one image file; raw pixels have as many as they have pixels.
        max_pixels: Of one image, as its header says.
    """

    exif_orientation: Literal["apply", "ignore"] = "apply"
    alpha: Literal["white", "drop"] = "white"
    max_bytes: int = 20 * 2**20
    max_pixels: int = 50 * 10**6


def decode(data: bytes, policy: DecodePolicy) -> Pixels:
    """Decode one image file. Thread-safe; most of the work is done without the interpreter lock.

    Returns:
        `[H, W, 3]`, upright or as stored according to the policy; usually not writeable.

    Raises:
        ImageTooLargeError: More bytes or pixels than the policy allows, a side of more than 65536, or more than memory
            holds.
        ImageUndecodableError: No image, not of a kind that is read, or damaged. Never only a part of the pixels.
    """
    if len(data) > policy.max_bytes:
        raise ImageTooLargeError("The image has more bytes than allowed.", num_bytes=len(data), limit=policy.max_bytes)
    container = recognise(data)
    _silence_pillow()
    try:
        with container.open(data, max_pixels=policy.max_pixels) as image:
            return _read_pixels(data, image, policy)
    except ImageError:
        raise
    except (DecompressionBombError, MemoryError) as error:
        raise ImageTooLargeError("The image is too large to be decoded.", container=container.name) from error
    except Exception as error:  # hostile files make Pillow raise nearly anything
        is_unknown = any(remark in str(error) for remark in _UNKNOWN_KIND)
        detail = f"This kind of {container.name} is not read." if is_unknown else "The image is damaged or incomplete."
        raise ImageUndecodableError(detail, container=container.name, reason=repr(error)) from error


def from_raw(data: bytes, *, height: int, width: int, policy: DecodePolicy) -> Pixels:
    """Take pixels that were never encoded: `height * width * 3` bytes of RGB, row by row.

    Returns:
        `[H, W, 3]`, a view of `data`, not writeable.

    Raises:
        ImageTooLargeError: More pixels than the policy allows, or a side of more than 65536.
        ImageUndecodableError: The number of bytes does not fit the size, or a side is not positive.
    """
    check_size(width, height, policy.max_pixels)
    if len(data) != height * width * 3:
        raise ImageUndecodableError(
            "The number of raw bytes is not height * width * 3.", num_bytes=len(data), height=height, width=width
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)


def _read_pixels(data: bytes, image: ImageFile, policy: DecodePolicy) -> Pixels:
    turn = find_transpose(_exif_of(data, image)) if policy.exif_orientation == "apply" else None
    if turn is None and isinstance(image, JpegImageFile):
        pixels = read_jpeg(data, image)
        if pixels is not None:
            return pixels
    grey16 = correct_samples(image, alpha=policy.alpha)
    image.load()
    return to_pixels(image if turn is None else image.transpose(turn), alpha=policy.alpha, grey16=grey16)


def _exif_of(data: bytes, image: ImageFile) -> object:
    return read_png_exif(data) if isinstance(image, PngImageFile) else image.info.get("exif")


def _silence_pillow() -> None:
    """Keep Pillow's remarks on odd metadata out of the log.

    A filter that stays: `warnings.catch_warnings` puts back what it found, for all threads, and so is not thread-safe.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or getattr(first[3], "pattern", None) != _FROM_PILLOW:
        warnings.filterwarnings("ignore", module=_FROM_PILLOW)
