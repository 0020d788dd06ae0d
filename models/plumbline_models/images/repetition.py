"""How exactly an image repeats itself along its rows: the sign of tiles."""

from typing import Final

import numpy as np

from plumbline_models.core.arrays import Pixels

_NUM_LINES: Final = 16
_MAX_SAMPLES: Final = 1024
_LEAST_PERIOD: Final = 1 / 16  # of a line
_LEAST_SAMPLES: Final = 8
_MUST_DIFFER: Final = 0.3  # somewhere within a period, of the squared difference of unrelated pixels
_FLAT_SHARE: Final = 0.82  # of the variance, between two colours: stripes and checks, which are drawings
_NUM_BINS: Final = 64


def repetition(pixels: Pixels) -> float:
    """The least squared difference of an image and its copy a period to the right, in units of unrelated pixels.

    Args:
        pixels: `[H, W, 3]`.

    Returns:
        0 for exact tiles, about 1 for pixels that have nothing to do with each other; 1 for flat patterns. Shifts that
        nothing within them differs from, as in smooth images, do not count.
    """
    lines = pixels[:: -(-pixels.shape[0] // _NUM_LINES)].sum(axis=2, dtype=np.float32) / 3
    pool = -(-lines.shape[1] // _MAX_SAMPLES)
    length = lines.shape[1] // pool
    lines = lines[:, : length * pool].reshape(len(lines), length, pool).mean(axis=2)
    if is_flat_pattern(lines):
        return 1.0
    lines -= lines.mean(axis=1, keepdims=True)
    total = float(np.square(lines).sum(dtype=np.float64))
    if total <= 0:
        return 1.0
    differences = _differences(lines) / (2 * total / length)
    first = max(_LEAST_SAMPLES, int(length * _LEAST_PERIOD))
    if first >= len(differences):
        return 1.0
    before = np.maximum.accumulate(differences)[first:]
    found = np.where(before > _MUST_DIFFER, differences[first:], 1.0)
    return float(found.min())


def _differences(lines: np.ndarray) -> np.ndarray:
    """Of each shift up to half of a line: the mean over positions, summed over the lines."""
    length = lines.shape[1]
    spectrum = np.fft.rfft(lines, n=2 * length, axis=1)
    shared = np.fft.irfft((spectrum.real**2 + spectrum.imag**2).sum(axis=0, dtype=np.float64), n=2 * length)[
        : length // 2 + 1
    ]
    squares = np.square(lines).sum(axis=0, dtype=np.float64)
    heads, tails = np.cumsum(squares)[::-1], np.cumsum(squares[::-1])[::-1]
    shifts = np.arange(length // 2 + 1)
    return np.asarray((heads[shifts] + tails[shifts] - 2 * shared) / (length - shifts))


def is_flat_pattern(values: np.ndarray) -> bool:
    """Whether values are two colours and little else, by the threshold that separates them best (Otsu, 1979)."""
    counts = np.bincount((values.ravel() * (_NUM_BINS / 256)).astype(np.int64), minlength=_NUM_BINS)
    shares = np.cumsum(counts)[:-1] / values.size
    sums = np.cumsum(counts * np.arange(_NUM_BINS)) / values.size
    variance = float((counts * (np.arange(_NUM_BINS) - sums[-1]) ** 2).sum()) / values.size
    between = np.square(sums[-1] * shares - sums[:-1]) / np.maximum(shares * (1 - shares), 1e-9)
    return bool(between.max() > _FLAT_SHARE * variance)
