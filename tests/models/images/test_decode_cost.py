"""What decoding is expected to cost: usual images are decoded here, what takes longer than 0.3 s is not."""

import io
import math
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plumbline_models.images.decode_cost import expected_decode_s
from plumbline_models.images.headers import Header, read_header
from plumbline_models.images.image_decoder import MAX_HERE_S

MP = 10**6


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """The beginning of one."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4)


def saved(kind: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(options.pop("mode", "RGB")).save(buffer, kind, **options)
    return buffer.getvalue()


# The costs of the dearest are those of docs/images.md, measured.
PNGS = [
    pytest.param(png(2048, 2048), True, id="RGB of 4 MP"),
    pytest.param(png(2048, 2048, colour=6), True, id="RGBA of 4 MP"),
    pytest.param(png(4000, 3000, colour=3), True, id="palette of 12 MP"),
    pytest.param(png(4000, 3000), False, id="RGB of 12 MP"),
    pytest.param(png(2600, 2600, depth=16, colour=6, interlaced=1), False, id="RGBA of 16 bits, interlaced"),
    pytest.param(png(7000, 7000, depth=1, colour=0), False, id="one bit, 49 MP"),
    pytest.param(png(760, 65536, colour=6, interlaced=1), False, id="high"),
]


@pytest.mark.parametrize(("data", "is_here"), PNGS)
def test_a_png_is_known_by_its_header(data: bytes, is_here: bool) -> None:
    assert (expected_decode_s(data, read_header(data)) <= MAX_HERE_S) is is_here


@pytest.mark.parametrize(
    ("options", "num_pixels", "is_here"),
    [
        pytest.param({}, 48 * MP, True, id="of a camera"),
        pytest.param({"progressive": True}, 20 * MP, True, id="progressive"),
        pytest.param({"progressive": True}, 48 * MP, False, id="progressive, of a camera"),
        pytest.param({"mode": "CMYK"}, 20 * MP, False, id="of four samples"),
    ],
)
def test_a_jpeg_is_known_by_its_scans_and_samples(options: dict[str, Any], num_pixels: int, is_here: bool) -> None:
    data = saved("JPEG", **options)
    assert (expected_decode_s(data, Header("jpeg", num_pixels)) <= MAX_HERE_S) is is_here


def test_bytes_of_a_file_cost_as_well() -> None:
    for kind in ("JPEG", "WEBP"):
        data = saved(kind)
        header = read_header(data)
        assert expected_decode_s(data + bytes(MP), header) > expected_decode_s(data, header) + 0.004


@pytest.mark.parametrize("is_lossless", [False, True])
def test_a_webp_of_four_megapixels_is_decoded_here(is_lossless: bool) -> None:
    data = saved("WEBP", lossless=is_lossless)
    assert expected_decode_s(data, Header("webp", 4 * MP)) <= MAX_HERE_S


def test_what_is_refused_costs_nothing_and_of_others_nothing_is_known() -> None:
    assert expected_decode_s(b"no image", read_header(b"no image")) == 0.0
    assert expected_decode_s(png(10, 10)[:20], Header("png", 10**9)) == 0.0
    gif = saved("GIF")
    assert expected_decode_s(gif, read_header(gif)) == math.inf


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_file_that_is_cut_off_anywhere_has_a_cost(kind: str) -> None:
    """A header that the end cuts in two is none; a JPEG's was read beyond the end."""
    data = saved(kind)
    for end in range(min(len(data), 1000)):
        assert expected_decode_s(data[:end], read_header(data[:end])) >= 0.0
