"""Images made square, by padding or by cropping, against Pillow doing it the long way."""

import numpy as np
import pytest
from PIL import Image

from plumbline_models.core.errors import ImageTooLargeError
from plumbline_models.images import square
from plumbline_models.images.size import MAX_SIDE_PX
from plumbline_models.images.square import crop_square, mean_fill, pad_square

FILL = (122, 116, 104)
SIZES = [(512, 512), (300, 451), (451, 300), (1, 1), (2, 7), (9, 31), (400, 1), (3, 900), (900, 40), (336, 335)]


def _noise(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _pad_whole(pixels, size_px):
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = Image.new("RGB", (side, side), FILL)
    square.paste(Image.fromarray(pixels), ((side - width) // 2, (side - height) // 2))
    return np.asarray(square.resize((size_px, size_px), Image.Resampling.BICUBIC))


def _crop_whole(pixels, size_px):
    height, width = pixels.shape[:2]
    short = min(height, width)
    new_height, new_width = int(size_px * height / short), int(size_px * width / short)
    resized = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BICUBIC))
    top, left = (new_height - size_px) // 2, (new_width - size_px) // 2
    return resized[top : top + size_px, left : left + size_px]


def test_the_fill_is_the_towers_mean_rounded_down():
    assert mean_fill((0.48145466, 0.4578275, 0.40821073)) == FILL


@pytest.mark.parametrize("size_px", [336, 56])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_padding_is_bit_for_bit_that_of_a_whole_square(height, width, size_px):
    pixels = _noise(height, width)
    np.testing.assert_array_equal(pad_square(pixels, size_px, FILL), _pad_whole(pixels, size_px))


@pytest.mark.parametrize("size_px", [336, 56])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_strips_are_padded_bit_for_bit_without_making_the_square(height, width, size_px, monkeypatch):
    monkeypatch.setattr(square, "_MAX_SQUARE_PX", 0)
    monkeypatch.setattr(square, "_MAX_BANDS_PX", 0)
    monkeypatch.setattr(square, "_MAX_GROWTH", 0)
    pixels = _noise(height, width)
    np.testing.assert_array_equal(pad_square(pixels, size_px, FILL), _pad_whole(pixels, size_px))


@pytest.mark.parametrize("size", [(2049, 1500), (1500, 2049), (2500, 2500), (2049, 3)], ids=str)
def test_a_large_square_is_gone_through_in_bands_bit_for_bit(size):
    pixels = _noise(*size)
    np.testing.assert_array_equal(pad_square(pixels, 336, FILL), _pad_whole(pixels, 336))


@pytest.mark.parametrize("shape", [(MAX_SIDE_PX, 1), (1, MAX_SIDE_PX)], ids=["tall", "wide"])
def test_a_strip_whose_square_would_take_gigabytes_is_padded(shape):
    pixels = np.full((*shape, 3), 255, dtype=np.uint8)
    resized = pad_square(pixels, 56, FILL)
    assert resized.shape == (56, 56, 3)
    assert (resized[0, 0] == FILL).all()


def test_a_side_too_long_is_refused():
    with pytest.raises(ImageTooLargeError):
        pad_square(np.zeros((MAX_SIDE_PX + 1, 1, 3), dtype=np.uint8), 56, FILL)


@pytest.mark.parametrize("size_px", [336, 56])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (300, 451), (451, 300), (1, 1), (2, 7), (100, 101), (31, 9)])
def test_cropping_is_bit_for_bit_that_of_the_whole_image(height, width, size_px):
    pixels = _noise(height, width)
    np.testing.assert_array_equal(crop_square(pixels, size_px), _crop_whole(pixels, size_px))


@pytest.mark.parametrize(("height", "width"), [(300, 451), (451, 300), (9, 31), (2, 60), (60, 2)])
def test_trimmed_cropping_is_within_one_level(height, width, monkeypatch):
    monkeypatch.setattr(square, "_MAX_WASTE", 0)
    pixels = _noise(height, width)
    difference = np.abs(crop_square(pixels, 56).astype(int) - _crop_whole(pixels, 56))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < difference.size / 100


def test_a_strip_whose_resize_would_take_gigabytes_is_cropped():
    assert crop_square(np.zeros((60_000, 1, 3), dtype=np.uint8), 336).shape == (336, 336, 3)
