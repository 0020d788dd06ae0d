"""The five distortions done in many ways, to be trained on.

One way is drawn for each picture and kept over its levels. No kernel, noise, resampler or centre of contrast is
the only one seen, so that what is learnt is the distortion and not one program's version of it.
"""

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from plumbline_models.core.arrays import Pixels
from plumbline_training.distortions import Distortion

Way: TypeAlias = Callable[[Pixels, float], Pixels]
"""Spoils a picture at a severity of 0 to `MOST_SEVERE`."""

MOST_SEVERE = 6
STRENGTHS: dict[Distortion, tuple[float, ...]] = {
    "blur": (0.2, 0.6, 1.0, 1.8, 3.0, 5.0, 8.0),  # standard deviation in px
    "noise": (1.0, 4.0, 8.0, 16.0, 28.0, 45.0, 70.0),  # standard deviation in grey levels
    "jpeg": (96.0, 70.0, 43.0, 24.0, 12.0, 5.0, 2.0),  # quality
    "resample": (1.1, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0),  # factor down and up again
    "contrast": (0.95, 0.8, 0.6, 0.45, 0.3, 0.18, 0.1),  # of the original, around its centre
}
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
BOX_RADIUS, DISC_RADIUS = 3**0.5, 2.0  # of the box and of the disc whose standard deviation is 1
HALF = 0.5
Resampling = Image.Resampling
_DOWN = (
    *(Resampling.NEAREST, Resampling.BOX, Resampling.BILINEAR, Resampling.HAMMING),
    *(Resampling.BICUBIC, Resampling.BICUBIC, Resampling.LANCZOS),
)
_UP = (Resampling.NEAREST, Resampling.BILINEAR, Resampling.BICUBIC, Resampling.BICUBIC, Resampling.LANCZOS)


def draw_way(kind: Distortion, rng: Generator) -> Way:
    """Draw one way of doing a distortion."""
    apply = _DRAW[kind](rng)
    strengths = STRENGTHS[kind]

    def spoil(image: Pixels, severity: float) -> Pixels:
        return apply(image, float(np.interp(severity, range(len(strengths)), strengths)))

    return spoil


def _blur(rng: Generator) -> Way:
    way = rng.random()
    if way < 0.35:  # noqa: PLR2004  (shares of the ways)
        return lambda image, sigma: _to_pixels(gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)))
    if way < 0.65:  # noqa: PLR2004
        return lambda image, sigma: _filtered(image, ImageFilter.GaussianBlur(sigma))
    if way < 0.8:  # noqa: PLR2004
        return lambda image, sigma: _filtered(image, ImageFilter.BoxBlur(sigma * BOX_RADIUS))
    return lambda image, sigma: _disc(image, sigma * DISC_RADIUS)


def _disc(image: Pixels, radius: float) -> Pixels:
    reach = int(np.ceil(radius))
    steps = np.arange(-reach, reach + 1)
    kernel = np.clip(radius + HALF - np.hypot(steps[:, None], steps[None, :]), 0, 1)
    padded = np.pad(image.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return _to_pixels(fftconvolve(padded, kernel[..., None] / kernel.sum(), mode="valid", axes=(0, 1)))


def _filtered(image: Pixels, filtering: ImageFilter.Filter) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(filtering))


def _noise(rng: Generator) -> Way:
    draws: list[Callable[[tuple[int, ...]], NDArray[np.floating]]] = [
        rng.standard_normal,
        rng.standard_normal,
        lambda size: rng.uniform(-np.sqrt(3), np.sqrt(3), size),
        lambda size: rng.laplace(0, np.sqrt(HALF), size),
    ]
    draw = draws[int(rng.integers(len(draws)))]
    way = rng.random()

    def add(image: Pixels, spread: float) -> Pixels:
        height, width, channels = image.shape
        grain = draw((height, width, 1 if way < 0.3 else channels))  # noqa: PLR2004
        if way < 0.8:  # noqa: PLR2004
            return _to_pixels(image + spread * grain)
        if way < 0.9:  # noqa: PLR2004
            return _to_pixels(image + spread * grain * np.sqrt(image / 128 + 0.05))  # of photons
        hit = rng.random((height, width, 1)) < (spread / 128) ** 2
        return np.where(hit, np.uint8(255) * (grain > 0), image).astype(np.uint8)

    return add


def _jpeg(rng: Generator) -> Way:
    subsampling = int(rng.choice((0, 1, 2, 2)))

    def compress(image: Pixels, quality: float) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=round(quality), subsampling=subsampling)
        with Image.open(buffer) as decoded:
            return np.asarray(decoded.convert("RGB"))

    return compress


def _resample(rng: Generator) -> Way:
    down, up = _DOWN[int(rng.integers(len(_DOWN)))], _UP[int(rng.integers(len(_UP)))]

    def shrink(image: Pixels, factor: float) -> Pixels:
        whole = Image.fromarray(image)
        small = (max(1, round(whole.width / factor)), max(1, round(whole.height / factor)))
        return np.asarray(whole.resize(small, down).resize(whole.size, up))

    return shrink


def _contrast(rng: Generator) -> Way:
    way = rng.random()
    grey = 128.0 if way < 0.7 else float(rng.uniform(90, 165))  # noqa: PLR2004

    def flatten(image: Pixels, share: float) -> Pixels:
        centre: NDArray[np.floating] = np.full(3, grey)
        if way < 0.25:  # noqa: PLR2004
            centre = image.mean(axis=(0, 1))
        elif way < 0.5:  # noqa: PLR2004
            centre = np.full(3, image.mean(axis=(0, 1)) @ LUMA)
        return _to_pixels(centre + (image - centre) * share)

    return flatten


def _to_pixels(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.rint(np.clip(values, 0, 255)), dtype=np.uint8)


_DRAW: dict[Distortion, Callable[[Generator], Way]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "resample": _resample,
    "contrast": _contrast,
}
