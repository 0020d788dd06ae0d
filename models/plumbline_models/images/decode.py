"""Bytes to pixels.

JPEG, PNG, WebP, GIF (first frame), BMP, TIFF (first page) and AVIF, told apart by their first bytes; docs/images.md
says which kinds of each. With `exif_orientation="ignore"` and `alpha="drop"` the result is what Pillow's
`convert("RGB")` gives, which is what the papers' own programs see; only 16-bit grey differs (see `colour`) and what
Pillow reads wrongly (see `samples`). A TIFF's orientation is part of its format: Pillow applies it always, and so do
we.

A file counts as whole when its container says so. Two things that lie within a well-closed container are not
noticed: a JPEG scan that ends early with an end marker, and a PNG whose compressed rows properly end too soon.

JPEGs are decoded by libjpeg-turbo straight into an array (simplejpeg) where that gives Pillow's pixels. Pillow decodes
with the same library, but row by row, into four bytes per pixel, and copies them out as three; in one call it takes
half the time (`python -m loadtests.engine.decoding`).

The orientation is read from EXIF without Pillow's `ImageOps.exif_transpose`, which turns sound files alike, but raises
where EXIF is damaged, and falls back to XMP, as no browser does.
"""

import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.Image import DecompressionBombError, Transpose, frombuffer
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageError, ImageTooLargeError, ImageUndecodableError
from plumbline_models.images.colour import to_pixels
from plumbline_models.images.containers import recognise
from plumbline_models.images.file_checks import read_png_exif
from plumbline_models.images.samples import correct_samples
from plumbline_models.images.size import check_size

_FROM_PILLOW = r"PIL\."
_UNKNOWN_KIND = ("unknown pixel mode", "cannot handle", "Unsupported BMP")
"""In what Pillow says of sound files of a kind that it does not read."""
_JPEG_MODES = frozenset({"L", "RGB"})  # CMYK is converted by rounding of Pillow's own

_RGBA = 4

# EXIF 2.32 (CIPA DC-008), section 4.6.4: tag 0x0112 and its eight values.
_TAG = 0x0112
_PREFIX = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_FORMATS = {1: "B", 3: "H", 4: "I"}  # TIFF types a writer may have chosen: byte, short, long
_MAX_ENTRIES = 512
_TRANSPOSES = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What turns an image upright, by the tag's value; 1 and anything unknown need nothing."""
_TURNS: dict[Transpose, Callable[[NDArray[np.void]], NDArray[np.void]]] = {
    Transpose.FLIP_LEFT_RIGHT: lambda grid: grid[:, ::-1],
    Transpose.ROTATE_180: lambda grid: grid[::-1, ::-1],
    Transpose.FLIP_TOP_BOTTOM: lambda grid: grid[::-1],
    Transpose.TRANSPOSE: lambda grid: grid.T,
    Transpose.ROTATE_270: lambda grid: grid[::-1].T,
    Transpose.TRANSVERSE: lambda grid: grid[::-1, ::-1].T,
    Transpose.ROTATE_90: lambda grid: grid[:, ::-1].T,
}
"""The same of an array of `[H, W]` whole pixels, as a view."""


ReadJpeg: TypeAlias = Callable[[bytes, JpegImageFile], Pixels | None]
"""Decodes a whole JPEG as stored, or leaves it to the next one, like `read_jpeg`."""


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


def decode(data: bytes, policy: DecodePolicy, *, read_first: ReadJpeg | None = None) -> Pixels:
    """Decode one image file. Thread-safe; most of the work is done without the interpreter lock.

    Args:
        data: The whole file.
        policy: Its limits are checked before pixels are decoded.
        read_first: Asked for the pixels of each JPEG before `read_jpeg` is.

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
            return _read_pixels(data, image, policy, read_first)
    except ImageError:
        raise
    except (DecompressionBombError, MemoryError) as error:
        raise ImageTooLargeError("The image is too large to be decoded.", container=container.name) from error
    except Exception as error:  # hostile files make Pillow raise nearly anything
        is_unknown = any(remark in str(error) for remark in _UNKNOWN_KIND)
        detail = f"This kind of {container.name} is not read." if is_unknown else "The image is damaged or incomplete."
        raise ImageUndecodableError(detail, container=container.name, reason=repr(error)) from error


def from_raw(data: bytes, *, height: int, width: int, policy: DecodePolicy, channels: Literal[3, 4] = 3) -> Pixels:
    """Take pixels that were never encoded: `height * width * channels` bytes, row by row.

    Args:
        data: The bytes; RGB is not copied.
        height: In pixels.
        width: In pixels.
        policy: Its `max_pixels` counts here, and with four channels its `alpha`.
        channels: 3 for RGB, 4 for RGBA, whose colours are not multiplied by their alpha.

    Returns:
        `[H, W, 3]`, not writeable; of RGB a view of `data`.

    Raises:
        ImageTooLargeError: More pixels than the policy allows, or a side of more than 65536.
        ImageUndecodableError: The number of bytes does not fit the size, or a side is not positive.
    """
    check_size(width, height, policy.max_pixels)
    if len(data) != height * width * channels:
        detail = f"The number of raw bytes is not height * width * {channels}."
        raise ImageUndecodableError(detail, num_bytes=len(data), height=height, width=width)
    if channels == _RGBA:
        return to_pixels(frombuffer("RGBA", (width, height), data, "raw", "RGBA", 0, 1), alpha=policy.alpha)
    return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)


def read_jpeg(data: bytes, header: JpegImageFile) -> Pixels | None:
    """Decode a whole JPEG by simplejpeg; without the interpreter lock.

    Only what the two surely decode alike: grey and three-channel files of which the library complains in no way. All
    others remain Pillow's, so what is accepted, refused and seen does not depend on who decodes.

    Args:
        data: The file.
        header: Pillow's reading of its header; its size has been compared with the limits.

    Returns:
        `[H, W, 3]`, as stored; None where the file is to be read by Pillow, which may refuse it.
    """
    if header.mode not in _JPEG_MODES:
        return None
    # Allocated here, by the size that was checked: libjpeg reads the header again, and might see another.
    pixels = np.empty((header.height, header.width, 3), dtype=np.uint8)
    try:
        decoded = simplejpeg.decode_jpeg(data, buffer=pixels, strict=True)
    except ValueError:  # damaged, cut short, twelve bits, an odd subsampling
        return None
    return pixels if decoded.shape == pixels.shape else None


def _read_pixels(data: bytes, image: ImageFile, policy: DecodePolicy, read_first: ReadJpeg | None) -> Pixels:
    transpose = _find_transpose(data, image) if policy.exif_orientation == "apply" else None
    if isinstance(image, JpegImageFile):
        pixels = read_first(data, image) if read_first is not None else None
        pixels = read_jpeg(data, image) if pixels is None else pixels
        if pixels is not None:
            return pixels if transpose is None else _turn(pixels, transpose)
    grey16 = correct_samples(image, alpha=policy.alpha)
    image.load()
    upright = image if transpose is None else image.transpose(transpose)
    return to_pixels(upright, alpha=policy.alpha, grey16=grey16)


def _turn(pixels: Pixels, transpose: Transpose) -> Pixels:
    """Turn an image; as an array of three-byte items, for numpy copies those in half the time of three bytes each."""
    turned = np.ascontiguousarray(_TURNS[transpose](pixels.view(np.dtype((np.void, 3)))[..., 0]))
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def _find_transpose(data: bytes, image: ImageFile) -> Transpose | None:
    """What turns an image upright; None where there is no tag, an unknown value, or EXIF that cannot be read."""
    exif = read_png_exif(data) if isinstance(image, PngImageFile) else image.info.get("exif")
    if not isinstance(exif, bytes):
        return None
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    try:
        return _TRANSPOSES.get(_read_tag(exif))
    except struct.error:
        return None


def _read_tag(exif: bytes) -> int:
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 1
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (num_entries,) = struct.unpack_from(order + "H", exif, directory)
    for index in range(min(num_entries, _MAX_ENTRIES)):
        entry = directory + 2 + 12 * index
        tag, kind, count = struct.unpack_from(order + "HHI", exif, entry)
        if tag == _TAG and count == 1 and kind in _FORMATS:
            (value,) = struct.unpack_from(order + _FORMATS[kind], exif, entry + 8)
            return int(value)
    return 1


def _silence_pillow() -> None:
    """Keep Pillow's warnings about odd metadata out of the log.

    A filter that stays: `warnings.catch_warnings` puts back what it found, for all threads, and so is not thread-safe.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or getattr(first[3], "pattern", None) != _FROM_PILLOW:
        warnings.filterwarnings("ignore", module=_FROM_PILLOW)
