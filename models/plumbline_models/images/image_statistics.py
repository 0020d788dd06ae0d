"""What an image is like, whatever it shows: how bright it is, how much changes between neighbours, how varied it is.

A model that is trained against a score changes these first: brighter, busier, flatter. They are read at some 32 by 32
places, so that they cost little beside decoding, and are watched as distributions, never one by one.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Pixels

GRID: Final = 32
"""Rows and columns that are looked at, at the most."""
_LEVELS: Final = 64
_LUMA: Final = np.asarray([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_WHITE: Final = 255.0
_MOST_ENTROPY: Final = math.log(_LEVELS)


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Of one image, each in [0, 1]."""

    brightness: float
    """Mean luma."""
    edges: float
    """Mean difference in luma between a pixel and its neighbours to the right and below."""
    entropy: float
    """Of luma in 64 levels, in units of the most that it could be."""


def statistics_of(pixels: Pixels) -> ImageStatistics:
    """Look at an image.

    Args:
        pixels: `[H, W, 3]`, one by one or more.
    """
    height, width = pixels.shape[:2]
    rows, columns = -(-height // GRID), -(-width // GRID)
    views = pixels[::rows, ::columns], pixels[::rows, 1::columns], pixels[1::rows, ::columns]
    here, *beside = _luma(views)
    differences = [_difference(here, each) for each in beside if each.size]
    counts = np.bincount((here.ravel() * (_LEVELS / (_WHITE + 1.0))).astype(np.uint8), minlength=_LEVELS)
    shares = counts[counts > 0] / here.size
    return ImageStatistics(
        brightness=min(1.0, _mean(here) / _WHITE),
        edges=sum(differences) / len(differences) / _WHITE if differences else 0.0,
        entropy=max(0.0, -float(shares @ np.log(shares)) / _MOST_ENTROPY),
    )


def _luma(views: Sequence[Pixels]) -> Iterator[np.ndarray]:
    """Of each view, `[h, w]`; computed at once, for calls cost more than so few numbers."""
    joined = np.concatenate([view.reshape(-1, 3) for view in views]).astype(np.float32) @ _LUMA
    ends = itertools.accumulate(view.shape[0] * view.shape[1] for view in views)
    for view, end in zip(views, ends, strict=True):
        height, width = view.shape[:2]
        yield joined[end - height * width : end].reshape(height, width)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    height, width = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
    return _mean(np.abs(one[:height, :width] - other[:height, :width]))


def _mean(values: np.ndarray) -> float:
    return float(np.add.reduce(values, axis=None)) / values.size
