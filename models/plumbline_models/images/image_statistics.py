"""What an image is like, whatever it shows: how bright it is, how much changes between neighbours, how varied it is.

A model that is trained against a score changes these first: brighter, busier, flatter. They are read at some 64 by 64
places, so that they cost little beside decoding, and are watched as distributions, never one by one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Pixels

GRID: Final = 64
"""Rows and columns that are looked at, at the most."""
_LEVELS: Final = 64
_LUMA: Final = np.asarray([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_WHITE: Final = 255.0


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
    here = _luma(pixels[::rows, ::columns])
    right, below = _luma(pixels[::rows, 1::columns]), _luma(pixels[1::rows, ::columns])
    changes = [_difference(here, each) for each in (right, below) if each.size]
    counts = np.bincount((here.ravel() * (_LEVELS / (_WHITE + 1.0))).astype(np.int64), minlength=_LEVELS)
    shares = counts[counts > 0] / here.size
    return ImageStatistics(
        brightness=min(1.0, float(here.mean(dtype=np.float64)) / _WHITE),
        edges=float(np.mean(changes)) / _WHITE if changes else 0.0,
        entropy=max(0.0, -float((shares * np.log(shares)).sum()) / float(np.log(_LEVELS))),
    )


def _luma(pixels: Pixels) -> np.ndarray:
    return np.asarray(pixels.reshape(-1, 3).astype(np.float32) @ _LUMA).reshape(pixels.shape[:2])


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    height, width = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
    return float(np.abs(one[:height, :width] - other[:height, :width]).mean())
