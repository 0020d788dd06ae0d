"""What breaks is found, and what is whole is left alone: each a share of pictures from seeds."""

import numpy as np
import pytest
import skimage.data

from loadtests.scorers.integrity import BREAKERS, broken_pictures, whole_pictures
from plumbline_models.images.integrity import Fault, find_faults
from plumbline_models.images.repetition import repetition

NUM_WHOLE, MAX_FAILED = 1000, 1  # one in a thousand
NUM_BROKEN, LEAST_FOUND = 200, 0.99


def faults_of(pixels: np.ndarray) -> set[str]:
    return {fault for fault, evidence in find_faults(pixels).items() if evidence >= 0.5}


def test_at_most_one_in_a_thousand_whole_pictures_fails() -> None:
    failed = [faults for pixels in whole_pictures(11, NUM_WHOLE) if (faults := faults_of(pixels))]
    assert len(failed) <= MAX_FAILED, failed


@pytest.mark.parametrize("fault", list(BREAKERS))
def test_broken_pictures_are_found(fault: Fault) -> None:
    found = [faults_of(pixels) for pixels in broken_pictures(fault, 12, NUM_BROKEN)]
    assert sum(bool(faults) for faults in found) >= LEAST_FOUND * NUM_BROKEN
    blank = {"blank", "near_constant"}
    named = sum(bool(faults & (blank if fault in blank else {fault})) for faults in found)
    assert named >= 0.95 * NUM_BROKEN  # under its own name


@pytest.mark.parametrize("name", ["astronaut", "brick", "camera", "checkerboard", "coins", "grass", "gravel", "moon"])
def test_textures_and_figures_are_pictures(name: str) -> None:
    pixels = getattr(skimage.data, name)()
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert not faults_of(rgb)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (31, 31, 3), (65_536, 4, 3), (40, 2000, 3)], ids=str)
@pytest.mark.parametrize("kind", ["black", "noise"])
def test_every_shape_has_evidence_between_0_and_1(shape: tuple[int, int, int], kind: str) -> None:
    pixels = (
        np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        if kind == "noise"
        else np.zeros(shape, np.uint8)
    )
    found = find_faults(pixels)
    assert all(0 <= evidence <= 1 for evidence in found.values())
    assert all(type(evidence) is float for evidence in found.values())
    if kind == "black":
        assert found["blank"] > 0.5


def test_an_object_on_a_plain_background_is_no_letterbox() -> None:
    pixels = np.full((256, 256, 3), 255, np.uint8)
    pixels[64:192, 64:192] = (200, 30, 30)
    assert not faults_of(pixels)


def test_an_object_in_noise_is_a_picture_though_its_brightness_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(3)
    pixels = np.clip(rng.normal(128, 30, (300, 300, 3)), 0, 255).astype(np.uint8)
    assert "noise" in faults_of(pixels)
    pixels[100:180, 100:180, 0] //= 2
    assert not faults_of(pixels)


def test_repetition_is_of_the_rows_and_says_nothing_of_smooth_images() -> None:
    rng = np.random.default_rng(5)
    tile = rng.integers(0, 256, (64, 50, 3), dtype=np.uint8)
    assert repetition(np.tile(tile, (1, 4, 1))) < 1e-4
    assert repetition(np.tile(tile, (4, 1, 1)).swapaxes(0, 1)) < 1e-4
    ramp = np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], (64, 300, 3))
    assert repetition(ramp) > 0.29
