import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError
from plumbline_models.images.decode import DecodePolicy, decode, from_raw

Encode = Callable[..., bytes]

POLICY = DecodePolicy()
AS_THE_PAPERS = DecodePolicy(exif_orientation="ignore", alpha="drop")


def as_pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def on_white(rgba: Pixels) -> Pixels:
    colour, alpha = rgba[..., :3].astype(float), rgba[..., 3:].astype(float) / 255
    return np.floor(colour * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def rgba_picture(ramp: Pixels) -> Image.Image:
    alpha = np.add.outer(np.arange(40) * 6, np.zeros(50)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([ramp, alpha]))


def assert_clear_parts_are_white(data: bytes) -> None:
    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert (rgba[..., 3] < 255).any()
    np.testing.assert_array_equal(decode(data, POLICY), on_white(rgba))


def test_lossless_files_decode_to_the_picture(lossless_files: dict[str, bytes], ramp: Pixels) -> None:
    for data in lossless_files.values():
        np.testing.assert_array_equal(decode(data, POLICY), ramp)


def test_every_file_decodes_as_pillow_converts_it(files: dict[str, bytes]) -> None:
    for data in files.values():
        pixels = decode(data, AS_THE_PAPERS)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, as_pillow(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_decode_as_pillow_converts_them(mode: str, ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp).convert(mode), "TIFF")
    np.testing.assert_array_equal(decode(data, POLICY), as_pillow(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag_is_applied_or_ignored(kind: str, orientation: int, ramp: Pixels, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(ramp), kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(decode(data, POLICY), upright)
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), as_pillow(data))
    assert upright.shape == ((50, 40, 3) if orientation >= 5 else (40, 50, 3))


def test_a_tiff_is_turned_always_as_by_pillow(ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp), "TIFF", tiffinfo={0x0112: 6})
    turned = np.rot90(ramp, k=-1)
    np.testing.assert_array_equal(decode(data, POLICY), turned)
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), turned)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_composited_on_white_or_dropped(kind: str, ramp: Pixels, encode: Encode) -> None:
    image = rgba_picture(ramp)
    data = encode(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(decode(data, POLICY), on_white(np.asarray(image)))
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), ramp)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param("PNG", "P", id="palette, one clear entry"),
        pytest.param("GIF", "P", id="gif"),
        pytest.param("PNG", "L", id="grey, one clear value"),
        pytest.param("PNG", "RGB", id="colour, one clear value"),
        pytest.param("PNG", "1", id="black and white, one clear"),
    ],
)
def test_one_clear_colour_is_found(kind: str, mode: str, ramp: Pixels, encode: Encode) -> None:
    image = Image.fromarray(ramp).convert(mode)
    data = encode(image, kind, transparency=image.getpixel((5, 5)))
    assert_clear_parts_are_white(data)
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), np.asarray(image.convert("RGB")))


def test_alpha_by_palette_entry_is_found(ramp: Pixels, encode: Encode) -> None:
    image = Image.fromarray(ramp).quantize(64)
    data = encode(image, "PNG", transparency=bytes(range(0, 256, 4)))
    assert_clear_parts_are_white(data)
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), np.asarray(image.convert("RGB")))


def test_grey_with_alpha_is_composited(ramp: Pixels, encode: Encode) -> None:
    image = rgba_picture(ramp).convert("LA")
    data = encode(image, "PNG")
    assert_clear_parts_are_white(data)
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_a_large_image_is_converted_as_a_small_one(mode: str, ramp: Pixels, encode: Encode) -> None:
    small = rgba_picture(ramp) if mode == "RGBA" else Image.fromarray(ramp).convert("L" if ";" in mode else mode)
    small = small.convert(mode)
    large = Image.new(mode, (3000, 2700))
    if small.palette is not None:
        large.putpalette(small.palette)
    large.paste(small, (2950, 2660))
    pixels = decode(encode(large, "TIFF"), DecodePolicy(max_bytes=2**30))
    np.testing.assert_array_equal(pixels[2660:, 2950:], decode(encode(small, "TIFF"), POLICY))
    np.testing.assert_array_equal(pixels[0, 0], decode(encode(large.crop((0, 0, 9, 9)), "TIFF"), POLICY)[0, 0])


def test_opaque_alpha_changes_nothing(ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp).convert("RGBA"), "PNG")
    np.testing.assert_array_equal(decode(data, POLICY), ramp)


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF")])
def test_sixteen_bit_grey_keeps_its_upper_bits(mode: str, kind: str, encode: Encode) -> None:
    samples = np.arange(0, 65536, 8).reshape(64, 128)
    stored = {"I;16": "<u2", "I;16B": ">u2"}[mode]
    image = Image.frombytes(mode, (128, 64), samples.astype(stored).tobytes())
    data = encode(image, kind)
    expected = np.repeat((samples // 256).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    np.testing.assert_array_equal(decode(data, POLICY), expected)
    np.testing.assert_array_equal(decode(data, AS_THE_PAPERS), expected)


def test_a_clear_value_of_sixteen_bit_grey_is_white(encode: Encode) -> None:
    samples = np.array([[1000, 1001], [1002, 1000]], dtype="<u2")
    data = encode(Image.fromarray(samples), "PNG", transparency=1000)
    assert decode(data, POLICY)[..., 0].tolist() == [[255, 3], [3, 255]]
    assert decode(data, AS_THE_PAPERS)[..., 0].tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_counts(kind: str, ramp: Pixels, encode: Encode) -> None:
    frames = [Image.fromarray(ramp).convert("L"), Image.fromarray(255 - ramp).convert("L")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data, POLICY), np.asarray(frames[0].convert("RGB")))


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(ImageTooLargeError) as refused:
        decode(b"not even an image", DecodePolicy(max_bytes=16))
    assert refused.value.facts == {"num_bytes": 17, "limit": 16}


def test_the_pixel_limit_is_inclusive(files: dict[str, bytes]) -> None:
    for data in files.values():
        assert decode(data, DecodePolicy(max_pixels=2000)).shape == (40, 50, 3)
        with pytest.raises(ImageTooLargeError):
            decode(data, DecodePolicy(max_pixels=1999))


def test_decoding_on_many_threads_gives_the_same_pixels(files: dict[str, bytes]) -> None:
    alone = {name: decode(data, POLICY) for name, data in files.items()}
    names = list(files) * 20
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: decode(files[name], POLICY), names))
    for name, pixels in zip(names, together, strict=True):
        np.testing.assert_array_equal(pixels, alone[name])


def test_raw_pixels_are_taken_without_a_copy(ramp: Pixels) -> None:
    data = ramp.tobytes()
    pixels = from_raw(data, height=40, width=50, policy=POLICY)
    np.testing.assert_array_equal(pixels, ramp)
    assert np.shares_memory(pixels, np.frombuffer(data, dtype=np.uint8))


@pytest.mark.parametrize(
    ("num_bytes", "height", "width", "error"),
    [
        pytest.param(5999, 40, 50, ImageUndecodableError, id="one byte short"),
        pytest.param(6001, 40, 50, ImageUndecodableError, id="one byte over"),
        pytest.param(0, 0, 50, ImageUndecodableError, id="no rows"),
        pytest.param(6000, -40, -50, ImageUndecodableError, id="negative sides"),
        pytest.param(6000, 10**9, 10**9, ImageTooLargeError, id="announces too many pixels"),
        pytest.param(6003, 1, 2001, ImageTooLargeError, id="more pixels than allowed"),
    ],
)
def test_raw_pixels_that_do_not_fit_are_refused(
    num_bytes: int, height: int, width: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        from_raw(bytes(num_bytes), height=height, width=width, policy=DecodePolicy(max_pixels=2000))


def test_the_bytes_of_raw_pixels_with_transparency_are_counted_by_four() -> None:
    assert from_raw(bytes(24), height=2, width=3, policy=POLICY, channels=4).shape == (2, 3, 3)
    with pytest.raises(ImageUndecodableError, match=r"width \* 4"):
        from_raw(bytes(18), height=2, width=3, policy=POLICY, channels=4)


def test_raw_pixels_are_bounded_by_their_number_and_not_by_the_bytes_of_a_file() -> None:
    assert from_raw(bytes(300), height=10, width=10, policy=DecodePolicy(max_bytes=299)).shape == (10, 10, 3)
