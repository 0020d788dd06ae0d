from array import array
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from plumbline_client import Image, UsageError

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
RGBA = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


class Described:
    """Has pixels in memory but no buffer protocol, as some array libraries do."""

    def __init__(self, interface: dict) -> None:
        self.__array_interface__ = interface


def test_a_file_is_read_when_the_image_is_made(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"first")
    image = Image.file(path)
    path.write_bytes(b"second")
    assert image.content == b"first"


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Image.file(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        pytest.param(PIXELS, (), id="numpy array"),
        pytest.param(np.asfortranarray(PIXELS), (), id="numpy array in another order"),
        pytest.param(np.repeat(PIXELS, 2, axis=1)[:, ::2], (), id="numpy view with gaps"),
        pytest.param(PIXELS.tobytes(), (2, 3), id="bytes"),
        pytest.param(bytearray(PIXELS.tobytes()), (2, 3), id="bytearray"),
        pytest.param(array("B", PIXELS.tobytes()), (2, 3), id="array"),
        pytest.param(Described(PIXELS.__array_interface__), (), id="address in an array interface"),
        pytest.param(Described(PIL.Image.fromarray(PIXELS).__array_interface__), (), id="bytes in an array interface"),
    ],
)
def test_raw_pixels_are_taken_row_by_row(pixels: object, size: tuple[int, ...]) -> None:
    image = Image.raw(pixels, *size)
    assert image.content == PIXELS.tobytes()
    assert image.shape == (2, 3)


@pytest.mark.parametrize(("pixels", "size"), [(RGBA, ()), (RGBA, (2, 3, 4)), (RGBA.tobytes(), (2, 3, 4))])
def test_raw_pixels_may_have_transparency(pixels: object, size: tuple[int, ...]) -> None:
    image = Image.raw(pixels, *size)
    assert (image.content, image.shape, image.channels) == (RGBA.tobytes(), (2, 3), 4)


def test_raw_pixels_are_a_copy() -> None:
    pixels = PIXELS.copy()
    image = Image.raw(pixels)
    pixels[:] = 0
    assert image.content == PIXELS.tobytes()


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        pytest.param(PIXELS.astype(np.float32), (), id="float pixels"),
        pytest.param(PIXELS.astype(np.int8), (), id="signed pixels"),
        pytest.param(PIXELS[..., 0], (), id="no channels"),
        pytest.param(np.zeros((2, 3, 2), np.uint8), (), id="two channels"),
        pytest.param(PIXELS, (2, 3, 4), id="three channels for four"),
        pytest.param(PIXELS.tobytes(), (2, 3, 4), id="too few bytes for four channels"),
        pytest.param(bytes(12), (2, 3, 2), id="flat with two channels"),
        pytest.param(PIXELS, (2, 3, 0), id="no channel at all"),
        pytest.param(np.zeros((0, 3, 3), np.uint8), (), id="no rows"),
        pytest.param(PIXELS, (3, 2), id="height and width swapped"),
        pytest.param(PIXELS.tobytes(), (), id="flat without size"),
        pytest.param(PIXELS.tobytes(), (2, None), id="flat without width"),
        pytest.param(PIXELS.tobytes(), (2, 4), id="too few bytes"),
        pytest.param([[1, 2, 3]], (), id="list"),
        pytest.param(Described(PIXELS.astype(np.float64).__array_interface__), (), id="floats in an array interface"),
        pytest.param(Described(PIXELS[::-1].__array_interface__), (), id="strides in an array interface"),
    ],
)
def test_other_than_rgb_or_rgba_uint8_is_refused(pixels: object, size: tuple[int | None, ...]) -> None:
    with pytest.raises(UsageError):
        Image.raw(pixels, *size)


@pytest.mark.parametrize("mode", ["RGB", "YCbCr", "CMYK", "HSV", "L", "1", "P", "RGBA", "LA"])
def test_an_opaque_picture_is_sent_as_pixels(mode: str) -> None:
    picture = PIL.Image.fromarray(PIXELS).convert(mode)
    image = Image.pil(picture)
    assert image.shape == (2, 3)
    assert image.content == picture.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bit_grey_keeps_its_upper_bits(mode: str) -> None:
    order = ">" if mode == "I;16B" else "="
    samples = np.arange(0, 65536, 257).reshape(16, 16)
    image = Image.pil(PIL.Image.frombytes(mode, (16, 16), samples.astype(f"{order}u2").tobytes()))
    assert image.content == np.repeat((samples >> 8).astype(np.uint8), 3).tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa"])
def test_a_picture_with_transparency_is_sent_as_rgba_pixels(mode: str) -> None:
    plain = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    picture = PIL.Image.fromarray(PIXELS).convert(plain)
    picture.putalpha(PIL.Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 50))
    picture = picture.convert(mode)
    image = Image.pil(picture)
    assert (image.shape, image.channels) == ((2, 3), 4)
    assert image.content == picture.convert(plain).convert("RGBA").tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_picture_with_a_clear_colour_is_sent_as_rgba_pixels(mode: str) -> None:
    picture = PIL.Image.fromarray(PIXELS).convert(mode)
    picture.info["transparency"] = picture.getpixel((0, 0))
    image = Image.pil(picture)
    assert image.channels == 4
    assert image.content == picture.convert("RGBA").tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_a_clear_sample_of_sixteen_bits_is_compared_whole(mode: str) -> None:
    samples = np.array([[0x1234, 0x1235, 0x2234], [0x3412, 0x1234, 0]], ">u2" if mode == "I;16B" else "<u2")
    picture = PIL.Image.frombytes(mode, (3, 2), samples.tobytes())
    picture.info["transparency"] = 0x1234
    image = Image.pil(picture)
    pixels = np.frombuffer(image.content or b"", np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(pixels[..., 0], samples >> 8)
    np.testing.assert_array_equal(pixels[..., 3] == 0, samples == 0x1234)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_an_agreed_range_are_refused(mode: str) -> None:
    with pytest.raises(UsageError, match="range"):
        Image.pil(PIL.Image.new(mode, (2, 2)))


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        pytest.param(Image.data(b"secret"), "Image(6 bytes)", id="data"),
        pytest.param(Image.raw(PIXELS), "Image(2 x 3, 18 bytes)", id="raw"),
        pytest.param(Image.url("https://host/a.png?signature=secret"), "Image(url)", id="url"),
    ],
)
def test_a_repr_shows_neither_content_nor_address(image: Image, shown: str) -> None:
    assert repr(image) == shown
