"""Views of an image: each changes it a little, none changes its size, and all read the same engine."""

import numpy as np
import pytest

from plumbline_serve.requests.views import VIEWS, blurred


@pytest.fixture
def pixels() -> np.ndarray:
    rows, columns = np.mgrid[:32, :48]
    smooth = 128 + 60 * np.sin(rows / 9)[..., np.newaxis] * np.cos(columns / 7)[..., np.newaxis]
    return np.broadcast_to(smooth, (32, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_a_smooth_image_is_nearly_the_image(name, pixels):
    seen = VIEWS[name](pixels)
    assert seen.shape == pixels.shape
    assert seen.dtype == np.uint8
    assert np.abs(seen.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_takes_away_most_of_what_single_pixels_add(name, pixels):
    noise = np.random.default_rng(0).choice([-8, 8], pixels.shape)
    noisy = (pixels.astype(int) + noise).astype(np.uint8)
    left = VIEWS[name](noisy).astype(int) - VIEWS[name](pixels).astype(int)
    assert np.abs(left).mean() < 0.8 * np.abs(noise).mean()


def test_a_blur_is_the_mean_of_nine():
    pixels = np.zeros((3, 3, 3), np.uint8)
    pixels[1, 1] = 90
    assert blurred(pixels)[:, :, 0].tolist() == [[10, 10, 10]] * 3
    assert blurred(np.full((1, 1, 3), 7, np.uint8)).tolist() == [[[7, 7, 7]]]
