"""Five ways to spoil a photograph, each at a strength that grows with the level.

Levels run from 0 (untouched) to 5 and need not be whole: training draws levels in between, measuring uses
1 to 5 as they stand.
"""

import io
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import gaussian

from plumbline_models.core.arrays import Pixels

Distortion: TypeAlias = Literal["blur", "noise", "jpeg", "resample", "contrast"]
NUM_LEVELS = 5
UNTOUCHED = 0.05  # below this level nothing is done

STRENGTHS: dict[Distortion, tuple[float, ...]] = {
    "blur": (0.0, 0.6, 1.0, 1.8, 3.0, 5.0),  # standard deviation in px
    "noise": (0.0, 4.0, 8.0, 16.0, 28.0, 45.0),  # standard deviation in grey levels
    "jpeg": (95.0, 70.0, 43.0, 24.0, 12.0, 5.0),  # quality
    "resample": (1.0, 1.5, 2.0, 3.0, 4.0, 6.0),  # factor down and up again
    "contrast": (1.0, 0.8, 0.6, 0.45, 0.3, 0.18),  # of the original, around the mean
}
DISTORTIONS: tuple[Distortion, ...] = tuple(STRENGTHS)


def distort(image: Pixels, kind: Distortion, level: float, rng: Generator) -> Pixels:
    """Spoil an RGB image; the size stays. `level` is 0 to 5, strengths in between are interpolated."""
    if level < UNTOUCHED:
        return image
    strength = float(np.interp(level, range(NUM_LEVELS + 1), STRENGTHS[kind]))
    return _APPLY[kind](image, strength, rng)


def _blur(image: Pixels, sigma_px: float, _: Generator) -> Pixels:
    blurred = gaussian(image.astype(np.float32), sigma_px, mode="reflect", channel_axis=-1)  # type: ignore[no-untyped-call]
    return _to_pixels(blurred)


def _noise(image: Pixels, spread: float, rng: Generator) -> Pixels:
    return _to_pixels(image + rng.normal(0.0, spread, size=image.shape))


def _jpeg(image: Pixels, quality: float, _: Generator) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=round(quality))
    with Image.open(buffer) as decoded:
        return np.asarray(decoded.convert("RGB"))


def _resample(image: Pixels, factor: float, _: Generator) -> Pixels:
    whole = Image.fromarray(image)
    small = (max(1, round(whole.width / factor)), max(1, round(whole.height / factor)))
    return np.asarray(whole.resize(small, Image.Resampling.BICUBIC).resize(whole.size, Image.Resampling.BICUBIC))


def _contrast(image: Pixels, share: float, _: Generator) -> Pixels:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return _to_pixels(mean + (image - mean) * share)


def _to_pixels(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.rint(np.clip(values, 0, 255)), dtype=np.uint8)


_APPLY: dict[Distortion, Callable[[Pixels, float, Generator], Pixels]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "resample": _resample,
    "contrast": _contrast,
}
