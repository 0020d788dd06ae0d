"""What the first bytes of an image file say of the work that it will be: its format and its number of pixels.

A few microseconds, without Pillow and without memory. It is a guess to schedule by, never a check: limits are compared
with the size that the decoder itself reads.
"""

import struct
from dataclasses import dataclass

from plumbline_models.core.errors import ImageUndecodableError
from plumbline_models.images.containers import recognise
from plumbline_models.images.file_checks import read_jpeg_size, read_webp_size

_MAX_TIFF_ENTRIES = 64
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_FORMATS = {3: "H", 4: "I", 16: "Q"}  # short, long, and BigTIFF's long
_AVIF_META_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Header:
    """What a file seems to be."""

    container: str
    """As in `containers`; empty where it is no image that is read."""
    num_pixels: int
    """At least 0; 0 where it is not said at the usual place."""


def read_header(data: bytes) -> Header:
    """Read the format and the size of an image file, as far as its first bytes say."""
    container = ""
    try:
        container = recognise(data).name
        width, height = _SIZES[container](data)
    except (ImageUndecodableError, struct.error):
        return Header(container, 0)
    return Header(container, abs(width * height))


def _read_png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _read_gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _read_bmp_size(data: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == _OS2_HEADER_BYTES else "<ii", data, 18)
    return width, height


def _read_tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:4] in {b"+\0", b"\0+"}
    (first,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    (num_entries,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, first)
    sides = {_TIFF_WIDTH: 0, _TIFF_HEIGHT: 0}
    for index in range(min(num_entries, _MAX_TIFF_ENTRIES)):
        entry = first + (8 + 20 * index if is_big else 2 + 12 * index)
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in sides and kind in _TIFF_FORMATS:
            (sides[tag],) = struct.unpack_from(order + _TIFF_FORMATS[kind], data, entry + (12 if is_big else 8))
    return sides[_TIFF_WIDTH], sides[_TIFF_HEIGHT]


def _read_avif_size(data: bytes) -> tuple[int, int]:
    """The largest of the sizes: an image may be a grid of tiles, or have a thumbnail."""
    found, place = (0, 0), -1
    while (place := data.find(b"ispe", place + 1, _AVIF_META_BYTES)) >= 0:
        width, height = struct.unpack_from(">II", data, place + 8)
        found = max(found, (width, height), key=lambda size: size[0] * size[1])
    return found


_OS2_HEADER_BYTES = 12
_SIZES = {
    "jpeg": read_jpeg_size,
    "png": _read_png_size,
    "webp": read_webp_size,
    "gif": _read_gif_size,
    "bmp": _read_bmp_size,
    "tiff": _read_tiff_size,
    "avif": _read_avif_size,
}
