import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageError
from plumbline_models.images.containers import recognise
from plumbline_models.images.decode import DecodePolicy, decode, read_jpeg

Encode = Callable[..., bytes]

POLICY = DecodePolicy(max_pixels=10**6)
QUICK = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 100},
    "coarse": {"quality": 5},
    "restarts": {"restart_marker_rows": 1},
    "kept as rgb": {"keep_rgb": True},
}


def by_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def header_of(data: bytes) -> JpegImageFile:
    header = recognise(data).open(data, max_pixels=10**6)
    assert isinstance(header, JpegImageFile)
    return header


def read(data: bytes) -> Pixels | None:
    return read_jpeg(data, header_of(data))


@pytest.mark.parametrize("options", QUICK.values(), ids=QUICK)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (7, 17), (50, 40), (257, 131)])
def test_pixels_are_those_of_pillow(
    options: dict[str, int], mode: str, size: tuple[int, int], ramp: Pixels, encode: Encode
) -> None:
    data = encode(Image.fromarray(ramp).convert(mode).resize(size), "JPEG", **options)
    pixels = read(data)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, by_pillow(data))


def test_four_channels_are_left_to_pillow(ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp).convert("CMYK"), "JPEG")
    assert read(data) is None
    np.testing.assert_array_equal(decode(data, POLICY), by_pillow(data))


def test_a_file_that_the_library_complains_of_is_left_to_pillow(ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp), "JPEG")
    scan = data.rindex(b"\xff\xda")
    odd = data[: scan + 40] + b"\xff\xd9"  # ends early, and says so: Pillow fills the rest with grey
    assert read(odd) is None
    np.testing.assert_array_equal(decode(odd, POLICY), by_pillow(odd))
    assert read(data[:-20]) is None


def test_nothing_larger_than_the_checked_size_is_filled(ramp: Pixels, encode: Encode) -> None:
    small, large = (encode(Image.fromarray(ramp).resize(size), "JPEG") for size in ((8, 8), (400, 400)))
    assert read_jpeg(large, header_of(small)) is None
    assert read_jpeg(small, header_of(large)) is None


def test_a_second_frame_header_gives_what_pillow_gives(ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp), "JPEG")
    frame = data.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", data, frame + 2)
    second = bytearray(data[frame : frame + 2 + length])
    struct.pack_into(">HH", second, 5, 9, 9)
    with pytest.raises(ImageError):
        decode(data[:frame] + bytes(second) + data[frame:], POLICY)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(2, 10_000), value=st.integers(0, 255), length=st.integers(1, 4))
def test_a_damaged_file_is_seen_as_pillow_sees_it(place: int, value: int, length: int) -> None:
    data = bytearray(_noise())
    place %= len(data) - length
    data[place : place + length] = bytes([value]) * length
    try:
        pixels = decode(bytes(data), POLICY)
    except ImageError:
        return
    np.testing.assert_array_equal(pixels, by_pillow(bytes(data)))


def _noise() -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (24, 33, 3), dtype=np.uint8)
    return simplejpeg.encode_jpeg(noise, quality=80, colorspace="RGB")
