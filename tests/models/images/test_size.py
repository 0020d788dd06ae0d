"""Thin images: their sides are bounded before they are decoded, and long ones that people have are scored."""

import struct
import zlib

import numpy as np
import pytest

from plumbline_models.core.errors import ImageTooLargeError
from plumbline_models.images.decode import DecodePolicy, decode, from_raw
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.images.size import MAX_SIDE_PX
from plumbline_models.images.square import crop_square, pad_square
from plumbline_models.networks.causal.pixels import Tiles

POLICY = DecodePolicy()


def grey_png(height: int, width: int) -> bytes:
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)}
    chunks |= {b"IDAT": zlib.compress((b"\0" + b"\x80" * width) * height, 1), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


@pytest.mark.parametrize("size", [(MAX_SIDE_PX + 1, 1), (1, MAX_SIDE_PX + 1), (100_000, 3)], ids=str)
def test_a_side_too_long_is_refused_by_its_header(size: tuple[int, int]) -> None:
    header = grey_png(*size)[:45]  # no pixels: whoever began to decode would call it damaged
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    with pytest.raises(ImageTooLargeError, match="65536"):
        decode(header[:33] + end, POLICY)
    with pytest.raises(ImageTooLargeError, match="65536"):
        from_raw(bytes(3 * size[0] * size[1]), height=size[0], width=size[1], policy=POLICY)


@pytest.mark.parametrize("size", [(MAX_SIDE_PX, 1), (1, MAX_SIDE_PX), (60_000, 40), (40, 60_000)], ids=str)
def test_a_panorama_or_a_long_screenshot_is_fitted_for_every_encoder(size: tuple[int, int]) -> None:
    pixels = decode(grey_png(*size), POLICY)
    for resized in (
        preprocess_pixels(pixels, PreprocessSpec((56, 56))),
        preprocess_pixels(pixels, PreprocessSpec((56, 56), "squash")),
        crop_square(pixels, 56),
    ):
        np.testing.assert_array_equal(resized, np.full((56, 56, 3), 128, dtype=np.uint8))
    assert pad_square(pixels, 56, (0, 0, 0)).shape == (56, 56, 3)
    assert Tiles(224, 56, is_split=False).preprocess(pixels).tiles.shape == (1, 56, 56, 3)
