"""What Pillow overlooks in a file, or would find out only after it had allocated or worked too much."""

import re
import struct
import zlib
from collections.abc import Iterator

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError

MAX_JPEG_SCANS = 64
"""Encoders write about ten. Each scan is a pass over every block, so a small file could ask for hours of them."""

_SCAN = b"\xff\xda"
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_NEXT_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")  # neither stuffed, nor fill, nor without a length

_PNG_MAGIC_BYTES = 8
_CRITICAL = 0x20  # bit 5 of the first letter of a chunk's name is clear when a decoder must understand it

_WEBP_HEAD_BYTES = 30
_VP8_START_CODE = b"\x9d\x01\x2a"
_VP8L_SIGNATURE = 0x2F


def check_jpeg_scans(data: bytes) -> None:
    """Refuse a JPEG of very many scans.

    Raises:
        ImageTooLargeError: There are more than `MAX_JPEG_SCANS`.
    """
    if data.count(_SCAN) <= MAX_JPEG_SCANS:  # almost always; a thumbnail or trailing video adds a few
        return
    for num_scans, _ in enumerate(_jpeg_scans(data), start=1):
        if num_scans > MAX_JPEG_SCANS:
            raise ImageTooLargeError("The JPEG has more scans than allowed.", limit=MAX_JPEG_SCANS)


def _jpeg_scans(data: bytes) -> Iterator[int]:
    """Offsets of the scans up to the end of the image, reading over segments that merely contain the marker."""
    position = 2
    while (found := _NEXT_MARKER.search(data, position)) is not None:
        marker = found[1][0]
        if marker == _END_OF_IMAGE:
            return
        if marker == _START_OF_SCAN:
            yield found.start()
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")


def check_png_chunks(data: bytes) -> None:
    """Check that a PNG is whole: every critical chunk's checksum is right and the end chunk is there.

    Pillow checks neither for image data, and would score a damaged picture.

    Raises:
        ImageUndecodableError: It is not.
    """
    position = _PNG_MAGIC_BYTES
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if not name[0] & _CRITICAL:
            checksum = int.from_bytes(data[end : end + 4], "big")
            if zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
                raise ImageUndecodableError("The PNG is damaged: a checksum is wrong.", chunk=repr(name))
            if name == b"IEND":
                return
        position = end + 4
    raise ImageUndecodableError("The PNG is cut short.", num_bytes=len(data))


def read_webp_size(data: bytes) -> tuple[int, int]:
    """Read a WebP's canvas from its first chunk.

    Returns:
        Width and height in pixels; both may still be nonsense.

    Raises:
        ImageUndecodableError: The first chunk is not one that begins a WebP.
    """
    head = data[:_WEBP_HEAD_BYTES].ljust(_WEBP_HEAD_BYTES, b"\0")
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L" and head[20] == _VP8L_SIGNATURE:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == _VP8_START_CODE:
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageUndecodableError("The WebP header is damaged.")
