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

from plumbline_models.core.errors import ImageUndecodableError
from plumbline_models.images.file_checks import check_jpeg_segments, check_png_chunks, read_webp_size
from plumbline_models.images.size import check_size

Check: TypeAlias = Callable[[bytes, int], None]
"""Takes the file and the pixel limit; raises an `ImageError`."""

_HEAD_BYTES = 256
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1", b"miaf"})
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_BMP_RLE = frozenset({1, 2})
_MAX_BMP_RLE_PIXELS = 4 * 10**6


@dataclass(frozen=True, slots=True)
class Container:
    """One file format.

    Args:
        name: For the log.
        matches: Whether the first bytes, 256 at most, are this format's.
        reader: Pillow's class; making one reads the header only.
        check: Runs before the reader.
    """

    name: str
    matches: Callable[[bytes], bool]
    reader: Callable[[io.BytesIO], ImageFile]
    check: Check

    def open(self, data: bytes, *, max_pixels: int) -> ImageFile:
        """Read the header; no pixel is decoded yet.

        Args:
            data: The whole file.
            max_pixels: The most that the header may announce.

        Raises:
            ImageTooLargeError: The header announces more than `max_pixels`, or a side of more than 65536.
            ImageUndecodableError: The file is damaged in a way that Pillow would overlook.
            Exception: Whatever Pillow raises on a header that it cannot read.
        """
        self.check(data, max_pixels)
        image = self.reader(io.BytesIO(data))
        check_size(image.width, image.height, max_pixels)
        if isinstance(image, TiffImageFile):
            _check_tiff_tile(image, max_pixels)
        if isinstance(image, BmpImageFile) and image.info.get("compression") in _BMP_RLE:
            check_size(image.width, image.height, min(max_pixels, _MAX_BMP_RLE_PIXELS))
        return image


class _QuietJpeg(JpegImageFile):
    """A JPEG whose EXIF is not parsed for a resolution, which is not used and which warns when malformed."""

    def _read_dpi_from_exif(self) -> None:
        return


def _check_tiff_tile(image: TiffImageFile, max_pixels: int) -> None:
    # libtiff allocates a whole tile, however small the image is.
    tile = image.tag_v2.get(_TIFF_TILE_WIDTH), image.tag_v2.get(_TIFF_TILE_LENGTH)
    if isinstance(tile[0], int) and isinstance(tile[1], int):
        check_size(tile[0], tile[1], max_pixels)


def _check_webp(data: bytes, max_pixels: int) -> None:
    # The reader allocates the canvas as soon as it is made, before its size could be read.
    check_size(*read_webp_size(data), max_pixels)


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
    Container("avif", lambda head: not _AVIF_BRANDS.isdisjoint(_brands(head)), AvifImageFile, _check_nothing),
)
"""Every format that is read, likeliest first."""

NOT_READ: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("HEIF (such as HEIC)", lambda head: not _HEIF_BRANDS.isdisjoint(_brands(head))),
    ("JPEG XL", lambda head: head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"))),
    ("JPEG 2000", lambda head: head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"))),
    ("SVG", lambda head: b"<svg" in head),
    ("PDF", lambda head: head.startswith(b"%PDF")),
    ("Photoshop", lambda head: head.startswith(b"8BPS")),
)
"""Formats that are named when they are refused."""


def recognise(data: bytes) -> Container:
    """Find the format by the first bytes; names and content types do not count.

    Raises:
        ImageUndecodableError: The bytes begin like none of the formats that are read, or there are none.
    """
    if not data:
        raise ImageUndecodableError("The image is empty.")
    head = data[:_HEAD_BYTES]
    for container in CONTAINERS:
        if container.matches(head):
            return container
    for name, matches in NOT_READ:
        if matches(head):
            known = ", ".join(container.name for container in CONTAINERS)
            raise ImageUndecodableError(f"The image is in the format {name}, which is not read; these are: {known}.")
    raise ImageUndecodableError("The bytes are no image in a known format.", head=head[:16].hex())


def _brands(head: bytes) -> frozenset[bytes]:
    """The brands that an ISO media file names, its own and those that it is compatible with.

    HEIF and AVIF share containers, and often the brand `mif1`: only all brands together tell them apart.
    """
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset({head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4))})
