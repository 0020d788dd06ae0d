import io
from array import array
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from plumbline_client import Image, UsageError

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


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
        pytest.param(np.zeros((2, 3, 4), np.uint8), (), id="four channels"),
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
def test_other_than_rgb_uint8_is_refused(pixels: object, size: tuple[int | None, ...]) -> None:
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


def sent_of(image: Image) -> bytes:
    assert image.content is not None
    return image.content


@pytest.mark.parametrize(("mode", "sent"), [("RGBA", "RGBA"), ("LA", "LA"), ("La", "LA"), ("RGBa", "RGBA")])
def test_a_picture_with_transparency_is_sent_as_png_of_the_same_pixels(mode: str, sent: str) -> None:
    alpha = PIL.Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 50)
    picture = PIL.Image.fromarray(PIXELS).convert(sent)
    picture.putalpha(alpha)
    picture = picture.convert(mode)
    image = Image.pil(picture)
    assert image.shape is None
    reread = PIL.Image.open(io.BytesIO(sent_of(image)))
    assert reread.mode == sent
    assert reread.tobytes() == picture.convert(sent).tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_picture_with_a_clear_colour_is_sent_as_png(mode: str) -> None:
    picture = PIL.Image.fromarray(PIXELS).convert(mode)
    picture.info["transparency"] = picture.getpixel((0, 0))
    image = Image.pil(picture)
    assert image.shape is None
    with PIL.Image.open(io.BytesIO(sent_of(image))) as reread:
        assert reread.info["transparency"] == picture.info["transparency"]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_an_agreed_range_are_refused(mode: str) -> None:
    with pytest.raises(UsageError, match="range"):
        Image.pil(PIL.Image.new(mode, (2, 2)))


def test_no_orientation_tag_travels_with_a_picture() -> None:
    picture = PIL.Image.fromarray(np.dstack([PIXELS, PIXELS[..., :1]]))
    picture.getexif()[0x0112] = 6
    assert 0x0112 not in PIL.Image.open(io.BytesIO(sent_of(Image.pil(picture)))).getexif()


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
