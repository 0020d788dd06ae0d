import numpy as np
import open_clip.transform as reference
import pytest
from PIL import Image

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageTooSmallError
from plumbline_models.images.preprocess_pixels import normalise, preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec, ResizeMode
from plumbline_models.images.resample import Interpolation

SOURCES = [
    (1, 1), (1, 7), (7, 1), (2, 3), (31, 31), (223, 224), (224, 224), (224, 225), (225, 224), (224, 300), (300, 224),
    (333, 517), (517, 333), (640, 40), (40, 640), (1, 900), (900, 1), (3, 1000), (100, 1601), (447, 449), (1000, 1500),
]  # fmt: skip
TARGETS = [(224, 224), (32, 32), (224, 336), (31, 57)]


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def open_clip_transform(spec: PreprocessSpec) -> reference.Compose:
    size = spec.size[0] if spec.size[0] == spec.size[1] else spec.size
    return reference.image_transform(
        size,
        is_train=False,
        mean=spec.mean,
        std=spec.std,
        resize_mode=spec.mode,
        interpolation=spec.interpolation,
        fill_color=spec.fill_color,
    )


def open_clip_fit(pixels: Pixels, spec: PreprocessSpec) -> Pixels:
    image = Image.fromarray(pixels)
    for step in open_clip_transform(spec).transforms[:-2]:
        image = step(image)
    return np.asarray(image)


@pytest.mark.parametrize("source", SOURCES, ids=lambda size: f"from {size[0]}x{size[1]}")
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_fitted_pixels_are_those_of_open_clip(
    source: tuple[int, int], mode: ResizeMode, interpolation: Interpolation
) -> None:
    pixels = noise(*source)
    for target in TARGETS:
        spec = PreprocessSpec(target, mode, interpolation, fill_color=127 if mode == "longest" else 0)
        try:
            expected = open_clip_fit(pixels, spec)
        except ValueError:  # "height and width must be > 0"
            with pytest.raises(ImageTooSmallError):
                preprocess_pixels(pixels, spec)
            continue
        resized = preprocess_pixels(pixels, spec)
        assert resized.dtype == np.uint8
        assert resized.flags.c_contiguous
        np.testing.assert_array_equal(resized, expected)


def test_the_normalised_tensor_is_that_of_open_clip() -> None:
    spec = PreprocessSpec((64, 48), "longest", mean=(0.5, 0.4, 0.3), std=(0.25, 0.3, 0.2))
    pixels = noise(90, 70)
    expected = open_clip_transform(spec)(Image.fromarray(pixels)).numpy()
    tensor = normalise(preprocess_pixels(pixels, spec), spec)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, expected)


def test_pixels_that_fit_already_are_not_copied() -> None:
    pixels = noise(224, 224)
    resized = preprocess_pixels(pixels, PreprocessSpec())
    np.testing.assert_array_equal(resized, pixels)
    assert np.shares_memory(resized, pixels)


def test_pixels_may_be_a_view_and_are_left_alone() -> None:
    pixels = noise(300, 200)
    before = pixels.copy()
    turned = np.rot90(pixels)
    np.testing.assert_array_equal(
        preprocess_pixels(turned, PreprocessSpec()), preprocess_pixels(turned.copy(), PreprocessSpec())
    )
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("source", [(1, 5_000_000), (5_000_000, 1), (2, 60_000), (100, 50_000)])
def test_an_extreme_shape_costs_no_more_than_its_own_pixels(source: tuple[int, int]) -> None:
    """Resized whole, the first would have 250 thousand million pixels."""
    pixels = np.zeros((*source, 3), dtype=np.uint8)
    middle = pixels[source[0] // 2 :, source[1] // 2 :]
    middle[...] = 200
    resized = preprocess_pixels(pixels, PreprocessSpec(interpolation="bilinear"))  # bicubic would overshoot at the edge
    assert resized.shape == (224, 224, 3)
    halves = resized if source[0] < source[1] else resized.swapaxes(0, 1)
    assert halves[0, 0].max() == 0
    assert halves[-1, -1].min() == 200


def test_longest_refuses_what_would_have_no_pixel_left() -> None:
    with pytest.raises(ImageTooSmallError):
        preprocess_pixels(noise(1, 10_000), PreprocessSpec(mode="longest"))
