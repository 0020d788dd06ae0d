"""What decoding a file may cost, by its first bytes and its length: a bound to schedule by, in seconds of CPU time.

Measured on a shared two-core EPYC with Pillow 13 and libjpeg-turbo 3 (`python -m loadtests.engine.decode_cost`): what
takes longest of each kind takes no more than 1.2 times what is said here, and what is flat much less.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

from plumbline_models.images.file_checks import count_jpeg_scans, read_jpeg_frame
from plumbline_models.images.headers import Header

_PNG_HEADER: Final = b"IHDR"
_PNG_HEADER_END: Final = 33
_PNG_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by its colour type, as the PNG specification has them."""
_PNG_ALPHA: Final = 4
"""Of a colour type: whether it has transparency."""
_CMYK_SAMPLES: Final = 4
_VP8L: Final = b"VP8L"
"""Of a WebP whose first chunk is a lossless image."""


def expected_decode_s(data: bytes, header: Header) -> float:
    """How long it may take, in seconds of CPU time.

    Args:
        data: The whole file.
        header: What its first bytes say.

    Returns:
        0 for what is refused at once; infinite for formats of which nothing was measured.
    """
    if not header.container:
        return 0.0  # refused by its first bytes
    if header.container not in _COSTS:
        return math.inf
    per_pixel_ns, per_byte_ns = _COSTS[header.container](data)
    return 1e-9 * (header.num_pixels * per_pixel_ns + len(data) * per_byte_ns)


def _png_cost(data: bytes) -> tuple[float, float]:
    """Rows are unfiltered byte by byte, and transparency is composited on white."""
    if data[12:16] != _PNG_HEADER or len(data) < _PNG_HEADER_END:
        return 0.0, 0.0  # refused: the header is the first chunk
    depth, colour, is_interlaced = data[24], data[25], data[28]
    num_bytes = _PNG_SAMPLES.get(colour, _PNG_ALPHA) * depth / 8
    return 6.0 + 8.0 * num_bytes + 7.0 * bool(colour & _PNG_ALPHA) + 6.0 * bool(is_interlaced), 0.0


def _jpeg_cost(data: bytes) -> tuple[float, float]:
    """Every scan passes all coefficients; four samples are converted by Pillow."""
    num_scans, num_samples = count_jpeg_scans(data), read_jpeg_frame(data)[2]
    per_pixel_ns = 2.5 + num_scans + 12.0 * (num_samples >= _CMYK_SAMPLES)
    return per_pixel_ns, 10.0 if num_scans <= 1 else 25.0


def _webp_cost(data: bytes) -> tuple[float, float]:
    return (20.0, 4.0) if data[12:16] == _VP8L else (12.0, 60.0)


_COSTS: Final[Mapping[str, Callable[[bytes], tuple[float, float]]]] = {
    "jpeg": _jpeg_cost,
    "png": _png_cost,
    "webp": _webp_cost,
}
"""Nanoseconds for each pixel, and for each byte of the file."""
