"""What Pillow overlooks in a file, or would find out only after it had allocated or worked too much."""

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError

MAX_JPEG_SCANS = 32
"""Encoders write about ten. Each scan is a pass over every block, so a small file could cost hours."""
MAX_JPEG_SEGMENTS = 2_000
"""Before the first scan. A colour profile takes at most 255; Pillow reads each in Python."""
MAX_JPEG_JUNK_BYTES = 65_536
"""Between the segments before the first scan; Pillow reads over them byte by byte."""
MAX_PNG_CHUNKS = 65_536
"""Encoders cut their data into chunks of 8 KiB and more; Pillow reads each in Python."""

_SCAN = b"\xff\xda"
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FRAME_HEADER_BYTES = 11
_STEP_BYTES = 2**18
_MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")  # those that begin a segment, and the end
_MARKERS = frozenset(each for each in (bytes([0xFF, last]) for last in range(256)) if _MARKER.match(each))

_PNG_MAGIC_BYTES = 8
_PNG_FIRST_NAME = slice(12, 16)
_CRITICAL = 0x20  # bit 5 of the first letter of a chunk's name is clear when a decoder must understand it

_WEBP_HEAD_BYTES = 30
_VP8_START_CODE = b"\x9d\x01\x2a"
_VP8L_SIGNATURE = 0x2F


def check_jpeg_segments(data: bytes) -> None:
    """Refuse a JPEG of more segments or scans than any encoder writes.

    Raises:
        ImageTooLargeError: There are more than the limits above.
        ImageUndecodableError: There is no scan at all.
    """
    junk_bytes, end = 0, 2
    for num_segments, (marker, start, next_end) in enumerate(jpeg_segments(data)):
        junk_bytes += start - end
        end = next_end
        if num_segments > MAX_JPEG_SEGMENTS or junk_bytes > MAX_JPEG_JUNK_BYTES:
            raise ImageTooLargeError("The JPEG has more segments than allowed.", limit=MAX_JPEG_SEGMENTS)
        if marker == _START_OF_SCAN:
            break
    else:
        raise ImageUndecodableError("The JPEG has no image data.")
    if count_jpeg_scans(data) > MAX_JPEG_SCANS:
        raise ImageTooLargeError("The JPEG has more scans than allowed.", limit=MAX_JPEG_SCANS)


def count_jpeg_scans(data: bytes) -> int:
    """Scans of a JPEG; never fewer than a decoder will find, and no more than one above the limit."""
    num_markers = data.count(_SCAN)  # a few may stand in a thumbnail, a comment, a film behind the image
    if num_markers <= MAX_JPEG_SCANS:
        return num_markers
    scans = (start for marker, start, _ in jpeg_segments(data) if marker == _START_OF_SCAN)
    return sum(1 for _ in islice(scans, MAX_JPEG_SCANS + 1))


def read_jpeg_size(data: bytes) -> tuple[int, int]:
    """Read a JPEG's width and height in pixels; see `read_jpeg_frame`."""
    return read_jpeg_frame(data)[:2]


def read_jpeg_frame(data: bytes) -> tuple[int, int, int]:
    """Read the last frame header before a JPEG's data, which is the one that counts.

    Returns:
        Width and height in pixels, and samples of each; 0 where there is no frame header.
    """
    width = height = num_samples = 0
    for marker, start, end in islice(jpeg_segments(data), MAX_JPEG_SEGMENTS):
        if marker == _START_OF_SCAN:
            break
        if marker in _FRAME_HEADERS and min(end, len(data)) - start >= _FRAME_HEADER_BYTES:
            height, width, num_samples = struct.unpack_from(">HHB", data, start + 5)
    return width, height, num_samples


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to the end of the image; compressed data lies between them.

    Args:
        data: The file.
    """
    end = 2
    while (place := _find_marker(data, end)) is not None and data[place + 1] != _END_OF_IMAGE:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], place, end


def _find_marker(data: bytes, start: int) -> int | None:
    """Where the next marker stands; in steps, for a search holds the interpreter lock: 150 ms through 20 MB of junk."""
    if data[start : start + 2] in _MARKERS:  # nearly always
        return start
    for step in range(start, len(data), _STEP_BYTES):
        if (found := _MARKER.search(data, step, step + _STEP_BYTES + 1)) is not None:
            return found.start()
    return None


def check_png_chunks(data: bytes) -> None:
    """Check that a PNG is whole: every critical chunk's checksum is right and the end chunk is there.

    Pillow checks neither for image data, and would score a damaged image.

    Raises:
        ImageUndecodableError: It is not, or it is Apple's kind of PNG, which has its own colours and compression.
        ImageTooLargeError: It has more chunks than the limit above.
    """
    if data[_PNG_FIRST_NAME] == b"CgBI":
        raise ImageUndecodableError("PNGs that were rewritten for iPhones (CgBI) are not read.")
    for num_chunks, (name, start, end) in enumerate(_png_chunks(data)):
        if (name == b"IHDR") is not (num_chunks == 0):
            raise ImageUndecodableError("The PNG is damaged: its header is not its first chunk, or there are two.")
        if num_chunks >= MAX_PNG_CHUNKS:
            raise ImageTooLargeError("The PNG has more chunks than allowed.", limit=MAX_PNG_CHUNKS)
        if not name[0] & _CRITICAL:
            if not _is_sound(data, start, end):
                raise ImageUndecodableError("The PNG is damaged: a checksum is wrong.", chunk=repr(name))
            if name == b"IEND":
                return
    raise ImageUndecodableError("The PNG is cut short.", num_bytes=len(data))


def read_png_exif(data: bytes) -> bytes | None:
    """The EXIF block of a PNG that was checked, wherever it lies.

    Pillow learns of one behind the image data only when it has read these, and of an animation never.
    """
    for name, start, end in _png_chunks(data):
        if name == b"eXIf" and _is_sound(data, start, end):
            return data[start:end]
    return None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the body of each chunk, as far as they are whole."""
    position = _PNG_MAGIC_BYTES
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            return
        yield name, start, end
        position = end + 4


def _is_sound(data: bytes, start: int, end: int) -> bool:
    """Whether a chunk's checksum, which covers its name, is right."""
    return zlib.crc32(memoryview(data)[start - 4 : end]) == int.from_bytes(data[end : end + 4], "big")


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
