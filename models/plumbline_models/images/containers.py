"""The image files we read: how each is recognised, what is checked before Pillow sees it, and who opens it.

Pillow's reader classes are called directly instead of through `Image.open`: exactly these formats, found by
their first bytes, and no limit of Pillow's own besides the caller's.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError
from plumbline_models.images.file_checks import check_jpeg_segments, check_png_chunks, read_webp_size

Check: TypeAlias = Callable[[bytes, int], None]
"""Takes the file and the pixel limit; raises an `ImageError`."""

_AVIF_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_BMP_RLE = frozenset({1, 2})
_MAX_BMP_RLE_PIXELS = 4 * 10**6


@dataclass(frozen=True, slots=True)
class Container:
    """One file format.

    Args:
        name: For the log.
        matches: Whether the first 16 bytes are this format's.
        reader: Pillow's class; making one reads the header only.
        check: Runs before the reader.
    """

    name: str
    matches: Callable[[bytes], bool]
    reader: Callable[[io.BytesIO], ImageFile]
    check: Check

    def open(self, data: bytes, *, max_pixels: int) -> ImageFile:
        """Read the header; no pixel is decoded yet.

        Raises:
            ImageTooLargeError: The header announces more than `max_pixels`.
            ImageUndecodableError: The file is damaged in a way that Pillow would overlook.
            Exception: Whatever Pillow raises on a header that it cannot read.
        """
        self.check(data, max_pixels)
        image = self.reader(io.BytesIO(data))
        check_pixels(image.width, image.height, max_pixels)
        if isinstance(image, TiffImageFile):
            _check_tiff_tile(image, max_pixels)
        if isinstance(image, BmpImageFile) and image.info.get("compression") in _BMP_RLE:
            check_pixels(image.width, image.height, min(max_pixels, _MAX_BMP_RLE_PIXELS))
        return image


class _QuietJpeg(JpegImageFile):
    """A JPEG whose EXIF is not parsed for a resolution, which nobody asked for and which warns when malformed."""

    def _read_dpi_from_exif(self) -> None:
        return


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Compare a size in pixels with the limit.

    Raises:
        ImageUndecodableError: A side is not positive.
        ImageTooLargeError: There are more pixels than allowed.
    """
    if width <= 0 or height <= 0:
        raise ImageUndecodableError("The image has no pixels.", width=width, height=height)
    if width * height > max_pixels:
        raise ImageTooLargeError("The image has more pixels than allowed.", num_pixels=width * height, limit=max_pixels)


def _check_tiff_tile(image: TiffImageFile, max_pixels: int) -> None:
    # libtiff allocates a whole tile, however small the image is.
    tile = image.tag_v2.get(_TIFF_TILE_WIDTH), image.tag_v2.get(_TIFF_TILE_LENGTH)
    if isinstance(tile[0], int) and isinstance(tile[1], int):
        check_pixels(tile[0], tile[1], max_pixels)


def _check_webp(data: bytes, max_pixels: int) -> None:
    # The reader allocates the canvas as soon as it is made, before it could be asked for a size.
    check_pixels(*read_webp_size(data), max_pixels)


def _check_jpeg(data: bytes, _max_pixels: int) -> None:
    check_jpeg_segments(data)


def _check_png(data: bytes, _max_pixels: int) -> None:
    check_png_chunks(data)


def _check_nothing(_data: bytes, _max_pixels: int) -> None:
    return


CONTAINERS = (
    Container("jpeg", lambda head: head.startswith(b"\xff\xd8\xff"), _QuietJpeg, _check_jpeg),
    Container("png", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile, _check_png),
    Container("webp", lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", WebPImageFile, _check_webp),
    Container("gif", lambda head: head[:6] in {b"GIF87a", b"GIF89a"}, GifImageFile, _check_nothing),
    Container("bmp", lambda head: head.startswith(b"BM"), BmpImageFile, _check_nothing),
    Container("tiff", lambda head: head.startswith(_TIFF_MAGICS), TiffImageFile, _check_nothing),
    Container("avif", lambda head: head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS, AvifImageFile, _check_nothing),
)
"""Every format that is read, likeliest first."""


def recognise(data: bytes) -> Container:
    """Find the format by the first bytes; names and content types are not asked.

    Raises:
        ImageUndecodableError: The bytes begin like none of the formats, or there are none.
    """
    if not data:
        raise ImageUndecodableError("The image is empty.")
    head = data[:16]
    for container in CONTAINERS:
        if container.matches(head):
            return container
    raise ImageUndecodableError("The bytes are no image in a known format.", head=head.hex())
