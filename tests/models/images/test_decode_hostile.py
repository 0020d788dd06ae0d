import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError
from plumbline_models.images.decode import DecodePolicy, decode

Encode = Callable[..., bytes]

POLICY = DecodePolicy(max_pixels=10**6)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHH24x", 54, 0, 0, 54, 40, width, height, 1, 24)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xd8\xff", id="a jpeg's first bytes"),
        pytest.param(b"hello, this is text", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", id="svg"),
        pytest.param(b"%PDF-1.7\n", id="pdf"),
        pytest.param(b"P6\n1 1\n255\nabc", id="a format that pillow knows and we do not"),
        pytest.param(b"RIFF\x10\0\0\0WAVEfmt ", id="another riff"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0", id="a film"),
        pytest.param(bytes(1000), id="zeros"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageUndecodableError):
        decode(data, POLICY)


def test_a_file_cut_anywhere_is_refused_or_decodes_whole(files: dict[str, bytes]) -> None:
    for data in files.values():
        whole = decode(data, POLICY)
        for length in [*range(0, len(data), 7), len(data) - 2, len(data) - 1]:
            try:
                pixels = decode(data[:length], POLICY)
            except ImageUndecodableError:
                continue
            np.testing.assert_array_equal(pixels, whole)  # only the end marker was cut


def test_a_png_without_its_end_chunk_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ImageUndecodableError, match="cut short"):
        decode(files["png"][:-12], POLICY)


def test_damaged_png_data_is_refused_though_pillow_would_read_it(files: dict[str, bytes]) -> None:
    data = bytearray(files["png"])
    place = data.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", data, place - 8)
    rows = bytearray(zlib.decompress(data[place : place + length]))
    rows[1000] ^= 1
    damaged = zlib.compress(bytes(rows))
    forged = data[: place - 8] + struct.pack(">I", len(damaged)) + b"IDAT" + damaged + data[place + length :]
    Image.open(io.BytesIO(forged)).load()
    with pytest.raises(ImageUndecodableError, match="checksum"):
        decode(bytes(forged), POLICY)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"no zlib stream", id="not zlib"),
        pytest.param(zlib.compress(bytes(31 * 10))[:-6], id="stream cut"),
        pytest.param(zlib.compress(bytes(31 * 10))[:-4] + b"abcd", id="wrong checksum"),
    ],
)
def test_corrupt_compressed_rows_are_refused(rows: bytes) -> None:
    with pytest.raises(ImageUndecodableError):
        decode(png(10, 11, rows=rows), POLICY)


def test_text_that_unpacks_to_gigabytes_is_refused() -> None:
    rows = zlib.compress(bytes(31 * 10))
    bomb = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 * PngImagePlugin.MAX_TEXT_CHUNK)))
    assert decode(png(10, 10, rows=rows), POLICY).shape == (10, 10, 3)
    with pytest.raises(ImageUndecodableError):
        decode(png(10, 10, bomb, rows=rows), POLICY)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(30000, 30000), id="png"),
        pytest.param(bmp(30000, 30000), id="bmp"),
        pytest.param(
            b"GIF89a" + struct.pack("<HHBBB", 30000, 30000, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;", id="gif"
        ),
        pytest.param(
            b"RIFF\x1e\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + (29999).to_bytes(3, "little") * 2, id="webp canvas"
        ),
        pytest.param(
            b"RIFF\x1e\0\0\0WEBPVP8 \x12\0\0\0\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 9999, 9999), id="webp lossy"
        ),
        pytest.param(
            b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0/" + struct.pack("<I", 9998 | 9998 << 14), id="webp lossless"
        ),
        pytest.param(
            b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 60000, 60000)
            + b"\x03\x01\x11\0\x02\x11\0\x03\x11\0\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0",
            id="jpeg",
        ),
    ],
)  # fmt: skip
def test_a_size_over_the_limit_is_refused_from_the_header(data: bytes) -> None:
    with pytest.raises(ImageTooLargeError) as refused:
        decode(data, POLICY)
    assert refused.value.facts["limit"] == POLICY.max_pixels


def tiff_of_one_tile(tile_side: int) -> bytes:
    tile = zlib.compress(bytes(64 * 64))
    grey, deflate = 1, 8
    tags = {256: 8, 257: 8, 258: 8, 259: deflate, 262: grey, 277: 1}
    tags |= {322: tile_side, 323: tile_side, 324: 8, 325: len(tile)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + directory


def test_a_tiff_of_huge_tiles_is_refused_however_small_it_is() -> None:
    assert decode(tiff_of_one_tile(64), POLICY).shape == (8, 8, 3)
    with pytest.raises(ImageTooLargeError):
        decode(tiff_of_one_tile(16_000), POLICY)


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0)])
def test_an_image_without_pixels_is_refused(width: int, height: int) -> None:
    for data in (png(width, height, rows=zlib.compress(bytes(100))), bmp(width, height)):
        with pytest.raises(ImageUndecodableError):
            decode(data, POLICY)


def test_a_jpeg_of_very_many_scans_is_refused(files: dict[str, bytes]) -> None:
    data = files["jpeg-progressive"]
    last_scan = data.rindex(b"\xff\xda")
    with pytest.raises(ImageTooLargeError, match="scans"):
        decode(data[:-2] + data[last_scan:-2] * 100 + data[-2:], POLICY)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"\xff\xe5\0\2" * 100_000, id="empty segments"),
        pytest.param(b"\xff\xe1\0\x10Exif\0\0abcdefgh" * 50_000, id="exif in pieces"),
        pytest.param(b"\xff\0" * 100_000, id="stuffing"),
        pytest.param(b"\xff\xd8" * 100_000, id="starts of an image"),
    ],
)
def test_a_jpeg_of_very_much_before_its_data_is_refused(before: bytes, files: dict[str, bytes]) -> None:
    """Pillow takes seconds for each, and time that grows with the square of the second."""
    data = files["jpeg"]
    with pytest.raises(ImageTooLargeError, match="segments"):
        decode(data[:2] + before + data[2:], POLICY)


def test_a_jpeg_that_ends_before_its_data_is_refused(files: dict[str, bytes]) -> None:
    data = files["jpeg"]
    with pytest.raises(ImageUndecodableError, match="no image data"):
        decode(data[:2] + b"\xff\xd9" + data[2:], POLICY)


def test_a_png_of_very_many_chunks_is_refused(files: dict[str, bytes]) -> None:
    data = files["png"]
    with pytest.raises(ImageTooLargeError, match="chunks"):
        decode(data[:33] + png_chunk(b"abCd", b"") * 70_000 + data[33:], POLICY)


def test_scan_markers_that_are_no_scans_do_not_count(files: dict[str, bytes]) -> None:
    comment = b"\xff\xfe" + struct.pack(">H", 402) + b"\xff\xda" * 200
    data = files["jpeg"]
    np.testing.assert_array_equal(decode(data[:2] + comment + data[2:], POLICY), decode(data, POLICY))
    np.testing.assert_array_equal(decode(data + b"\xff\xda" * 200, POLICY), decode(data, POLICY))


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\0\0II", id="nearly nothing in it"),
        pytest.param(b"Exif\0\0II*\0\xff\xff\xff\xff", id="directory far away"),
        pytest.param(b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 100, id="entries without end"),
        pytest.param(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x05\0\x01\0\0\0\xff\xff\xff\x7f", id="offset far away"),
        pytest.param(b"Exif\0\0" + bytes(60000), id="zeros"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_is_passed_over_in_silence(exif: bytes, kind: str, ramp: Pixels, encode: Encode) -> None:
    plain = encode(Image.fromarray(ramp), kind)
    data = encode(Image.fromarray(ramp), kind, exif=exif)
    assert len(data) > len(plain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(decode(data, POLICY), decode(plain, POLICY))
    assert caught == []


def test_large_profiles_and_exif_do_not_matter(ramp: Pixels, encode: Encode) -> None:
    image = Image.fromarray(ramp)
    data = encode(image, "JPEG", icc_profile=bytes(500_000), exif=b"Exif\0\0II*\0" + bytes(60_000))
    np.testing.assert_array_equal(decode(data, POLICY), decode(encode(image, "JPEG"), POLICY))


def test_pillows_remarks_do_not_leak(files: dict[str, bytes]) -> None:
    animation = png_chunk(b"acTL", struct.pack(">II", 0, 0))  # no frames: Pillow warns
    still = files["png"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(still[:33] + animation + still[33:], POLICY)
        with pytest.raises(ImageUndecodableError):
            decode(files["tiff"][:-20], POLICY)
    assert caught == []


@settings(max_examples=400, deadline=None)  # a decoder's first call loads its library
@given(data=st.data())
def test_mutated_files_never_raise_anything_but_image_errors(files: dict[str, bytes], data: st.DataObject) -> None:
    mutated = bytearray(files[data.draw(st.sampled_from(sorted(files)))])
    near_the_front = st.integers(0, min(200, len(mutated) - 1))
    anywhere = st.integers(0, len(mutated) - 1)
    for place, value in data.draw(
        st.lists(st.tuples(near_the_front | anywhere, st.integers(0, 255)), min_size=1, max_size=12)
    ):
        mutated[place] = value
    if data.draw(st.booleans()):
        del mutated[data.draw(anywhere) :]
    try:
        pixels = decode(bytes(mutated), POLICY)
    except (ImageUndecodableError, ImageTooLargeError):
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= POLICY.max_pixels
