"""Every kind of sample that PNGs and TIFFs hold: read with the right values, or refused with the reason."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageUndecodableError
from plumbline_models.images.colour import READ_MODES, REFUSED_MODES, to_pixels
from plumbline_models.images.containers import CONTAINERS
from plumbline_models.images.decode import DecodePolicy, decode

POLICY = DecodePolicy()
DOCUMENT = (Path(__file__).parents[3] / "docs" / "images.md").read_text()
RAMP = np.arange(16 * 24).reshape(16, 24) % 256
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)

Encode = Callable[..., bytes]


def tiff(samples: NDArray[np.generic], photometric: str = "minisblack", **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric=photometric, **options)
    return buffer.getvalue()


def packed_tiff(samples: NDArray[np.integer], num_bits: int, photometric: int) -> bytes:
    """Grey samples of any number of bits, row by row, each row in whole bytes."""
    height, width = samples.shape
    bits = (samples[..., np.newaxis] >> np.arange(num_bits)[::-1]) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    tags = {256: width, 257: height, 258: num_bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    tags[279] = len(rows)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows + struct.pack("<H", len(tags)) + entries + bytes(4)


def png(depth: int, kind: int, row: bytes, width: int, clear: bytes) -> bytes:
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0), b"tRNS": clear}
    chunks |= {b"IDAT": zlib.compress(b"\0" + row), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def assert_shows(data: bytes, expected: NDArray[np.integer], tolerance: int = 0) -> None:
    wanted = np.repeat(expected[..., np.newaxis], 3, axis=2) if expected.ndim == 2 else expected
    np.testing.assert_allclose(decode(data, POLICY).astype(int), wanted, atol=tolerance)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_grey_and_colour_are_read_as_they_are(kind: str, compression: str | None, byte_order: str) -> None:
    step = 256 if kind == "uint16" else 1
    options: dict[str, Any] = {"compression": compression, "byteorder": byte_order}
    assert_shows(tiff((RAMP * step).astype(kind), **options), RAMP)
    assert_shows(tiff((COLOURS * step).astype(kind), "rgb", **options), COLOURS)


@pytest.mark.parametrize("num_bits", [1, 2, 4, 8, 16])
def test_white_may_be_zero(num_bits: int) -> None:
    most = 2**num_bits - 1
    samples = np.array([[0, most // 3, most, most]])
    shown = samples * 255 // most
    assert_shows(packed_tiff(samples, num_bits, photometric=1), shown)
    assert_shows(packed_tiff(samples, num_bits, photometric=0), 255 - shown)


def test_twelve_bits_are_all_there_is() -> None:
    assert_shows(packed_tiff(np.array([[0, 16, 2048, 4095]]), 12, photometric=1), np.array([[0, 1, 128, 255]]))


def test_grey_multiplied_by_its_transparency_is_composited() -> None:
    alpha = RAMP[::-1]
    data = tiff(np.dstack([np.round(RAMP * (alpha / 255)), alpha]).astype(np.uint8), extrasamples=["assocalpha"])
    assert_shows(data, np.round(RAMP * (alpha / 255) + 255 - alpha).astype(int), tolerance=1)  # rounded twice


def test_cielab_is_seen_as_colour() -> None:
    lab = np.tile(np.array([[[255, 0, 0], [128, 0, 0], [0, 0, 0]]], dtype=np.uint8), (2, 1, 1))
    assert_shows(tiff(lab, "cielab"), np.tile([[[255] * 3, [119] * 3, [0] * 3]], (2, 1, 1)), tolerance=1)


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        pytest.param(RAMP.astype(np.int32), {}, id="32 bits that would fit into 8"),
        pytest.param(RAMP.astype(np.uint32) * 257, {}, id="32 bits that would fit into 16"),
        pytest.param(RAMP.astype(np.int16), {}, id="signed 16 bits"),
        pytest.param((RAMP - 128).astype(np.int8), {}, id="signed bytes"),
        pytest.param((RAMP / 255).astype(np.float32), {}, id="floating point"),
        pytest.param((RAMP / 255).astype(np.float16), {}, id="half precision"),
        pytest.param(RAMP.astype(np.uint64), {}, id="64 bits"),
        pytest.param(COLOURS.astype(np.uint32), {"photometric": "rgb"}, id="colour of 32 bits"),
        pytest.param(
            np.moveaxis(COLOURS * 256, -1, 0).astype(np.uint16),
            {"photometric": "rgb", "planarconfig": "separate"},
            id="16-bit planes without compression",
        ),
    ],
)
@pytest.mark.parametrize("policy", [POLICY, DecodePolicy(alpha="drop")], ids=["white", "drop"])
def test_what_cannot_be_read_right_is_refused_and_not_called_damaged(
    samples: NDArray[np.generic], options: dict[str, str], policy: DecodePolicy
) -> None:
    with pytest.raises(ImageUndecodableError) as refused:
        decode(tiff(np.ascontiguousarray(samples), **options), policy)
    assert "damaged" not in refused.value.detail


@pytest.mark.parametrize(
    ("depth", "row", "clear", "expected"),
    [
        pytest.param(2, b"\x1b", 1, [0, 255, 170, 255], id="2 bits"),
        pytest.param(4, b"\x01\x2f", 1, [0, 255, 34, 255], id="4 bits"),
        pytest.param(8, b"\x00\x01\x02\x03", 1, [0, 255, 2, 3], id="8 bits"),
    ],
)
def test_a_clear_grey_of_few_bits_is_found(depth: int, row: bytes, clear: int, expected: list[int]) -> None:
    assert decode(png(depth, 0, row, 4, struct.pack(">H", clear)), POLICY)[0, :, 0].tolist() == expected


def test_a_clear_colour_of_sixteen_bits_is_refused_unless_transparency_is_dropped() -> None:
    """Pillow has the upper 8 bits of the pixels only: another pixel would become clear, here the second."""
    data = png(
        16, 2, struct.pack(">6H", 52, 120, 188, 52 << 8, 120 << 8, 188 << 8), 2, struct.pack(">3H", 52, 120, 188)
    )
    with pytest.raises(ImageUndecodableError, match="16-bit colour"):
        decode(data, POLICY)
    assert decode(data, DecodePolicy(alpha="drop"))[0].tolist() == [[0, 0, 0], [52, 120, 188]]


@pytest.mark.parametrize("mode", READ_MODES)
def test_every_mode_of_the_table_is_read(mode: str) -> None:
    assert to_pixels(Image.new(mode, (3, 2)), alpha="white").shape == (2, 3, 3)


@pytest.mark.parametrize("mode", [*REFUSED_MODES, "HSV"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(ImageUndecodableError, match="not supported"):
        to_pixels(Image.new(mode, (3, 2)), alpha="white")


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        pytest.param(b"heic\0\0\0\0mif1heic", "HEIF", id="an iphone's"),
        pytest.param(b"mif1\0\0\0\0mif1heic", "HEIF", id="of brand mif1"),
        pytest.param(b"msf1\0\0\0\0msf1hevc", "HEIF", id="a sequence"),
    ],
)
def test_heif_is_told_from_avif(brands: bytes, name: str, ramp: Pixels, encode: Encode) -> None:
    with pytest.raises(ImageUndecodableError, match=f"{name}.*not read; these are: jpeg, png"):
        decode(struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(64), POLICY)
    avif = bytearray(encode(Image.fromarray(ramp), "AVIF"))
    avif[8:12] = b"mif1"  # the compatible brands go on to say avif
    assert decode(bytes(avif), POLICY).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        pytest.param(b"\xff\x0a\xfa\x7f", "JPEG XL", id="jpeg xl"),
        pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", id="jpeg 2000"),
        pytest.param(b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", id="svg"),
        pytest.param(b"%PDF-1.7\n", "PDF", id="pdf"),
        pytest.param(b"8BPS\0\1", "Photoshop", id="photoshop"),
    ],
)
def test_a_format_that_is_not_read_is_named(head: bytes, name: str) -> None:
    with pytest.raises(ImageUndecodableError, match=name):
        decode(head + bytes(64), POLICY)


def test_the_document_lists_what_is_read() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCUMENT.splitlines() if line[:1] == "|"]
    assert {row[0].lower() for row in rows} >= {container.name for container in CONTAINERS}
    modes = {row[0].strip("`"): row[1] for row in rows if row[0].startswith("`")}
    assert modes == READ_MODES
    for reason in REFUSED_MODES.values():
        assert reason in DOCUMENT
