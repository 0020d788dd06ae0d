"""What an image is like: known images, and that it hardly depends on size."""

import numpy as np
import pytest

from plumbline_models.images.image_statistics import statistics_of


def image(of: object, height: int = 96, width: int = 128) -> np.ndarray:
    return np.broadcast_to(np.asarray(of, np.uint8), (height, width, 3))


def test_white_black_and_grey_are_as_bright_as_they_are_and_have_neither_edges_nor_variety():
    for level in (0, 128, 255):
        found = statistics_of(image(level))
        assert found.brightness == pytest.approx(level / 255)
        assert (found.edges, found.entropy) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_stripes_of_one_pixel_are_all_edge_along_one_side():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    found = statistics_of(stripes)
    assert found.edges == pytest.approx(0.5)  # all of it to the right, none of it below
    assert found.brightness == pytest.approx(0.5)
    assert found.entropy == pytest.approx(np.log(2) / np.log(64))


def test_noise_is_as_varied_as_can_be_and_a_ramp_has_hardly_an_edge():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 1), np.uint8).repeat(3, axis=2)
    assert statistics_of(noise).entropy > 0.97
    ramp = np.linspace(0, 255, 256).astype(np.uint8)[np.newaxis, :, np.newaxis].repeat(256, axis=0).repeat(3, axis=2)
    assert statistics_of(ramp).edges < 0.005 < statistics_of(noise).edges


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (63, 65), (64, 64), (4000, 10)])
def test_any_size_has_statistics_within_their_range(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    found = statistics_of(pixels)
    assert all(0.0 <= each <= 1.0 for each in (found.brightness, found.edges, found.entropy))


def test_a_larger_copy_is_as_bright_and_as_varied():
    small = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    large = small.repeat(5, axis=0).repeat(5, axis=1)
    assert statistics_of(large).brightness == pytest.approx(statistics_of(small).brightness)
    assert statistics_of(large).entropy == pytest.approx(statistics_of(small).entropy)
