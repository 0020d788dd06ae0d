"""How far two sets of encodings are from each other: Frechet distance and MMD.

Frechet: of two normal laws with the sets' means and covariances (Dowson, Landau, 1982; Heusel et al., "GANs Trained by
a Two Time-Scale Update Rule", NeurIPS 2017, arXiv:1706.08500). On the pool features of InceptionV3 it is called FID;
on any other encoding it is not, and its values have nothing to do with FID's. It is biased: few images make it larger,
also where nothing differs, which is what `frechet_floor` shows.

MMD: squared maximum mean discrepancy, unbiased, so that it may be below 0 (Gretton et al., JMLR 2012). Polynomial: the
cubic kernel (x.y / d + 1)^3 of KID (Binkowski et al., ICLR 2018, arXiv:1801.01401). RBF: exp(-|x - y|^2 / (2 sigma^2)),
as CMMD takes it (Jayasumana et al., CVPR 2024, arXiv:2401.09603), there with sigma 10, biased, and times 1000.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from plumbline_models.sets.vectors import ROWS_AT_A_TIME, Matrix, StillWanted, always_wanted

DEFAULT_SIGMA: Final = 0.5
"""Unit vectors whose cosine is 0.75, as those of unrelated images often are, are sqrt(0.5) apart: near 1.4 sigma."""
LEAST_SIGMA: Final = 1e-3
MOST_SIGMA: Final = 1e3
_SEED: Final = 1729  # of the splits of `frechet_floor`; any will do
_SPLITS: Final = 8
_SMALL_SIZE: Final = 2**18  # of both sets together; of larger ones a split costs much, and one says as much as several

Kernel = Callable[[Matrix, Matrix], Matrix]
"""`[N, D]` and `[M, D]` to `[N, M]`."""


def frechet(a: Matrix, b: Matrix, *, still_wanted: StillWanted = always_wanted) -> float:
    """The Frechet distance, at least 0.

    The trace of the root of the product of both covariances is the sum of the singular values of A B', A and B being
    the centred sets over the roots of n - 1. That needs no root of a matrix, and is as exact where there are fewer
    encodings than dimensions.

    Args:
        a: `[N, D]`, two or more.
        b: `[M, D]`, two or more.
        still_wanted: Called between the decompositions.
    """
    mean_a, factor_a = _factor(a)
    still_wanted()
    mean_b, factor_b = _factor(b)
    still_wanted()
    common = float(np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum())
    traces = float(np.sum(factor_a * factor_a) + np.sum(factor_b * factor_b))
    gap = mean_a - mean_b
    return max(0.0, float(gap @ gap) + traces - 2 * common)


def frechet_floor(a: Matrix, b: Matrix, *, still_wanted: StillWanted = always_wanted) -> float:
    """What `frechet` gives for so few encodings where nothing differs: between two random parts of both sets together.

    Args:
        a: `[N, D]`; one part has as many.
        b: `[M, D]`; the other part has as many.
        still_wanted: As for `frechet`.
    """
    both, rng = np.concatenate((a, b)), np.random.default_rng(_SEED)
    orders = [rng.permutation(len(both)) for _ in range(_SPLITS if both.size <= _SMALL_SIZE else 1)]
    found = [frechet(both[order[: len(a)]], both[order[len(a) :]], still_wanted=still_wanted) for order in orders]
    return sum(found) / len(found)


def mmd_polynomial(a: Matrix, b: Matrix, *, still_wanted: StillWanted = always_wanted) -> float:
    """The squared MMD by KID's cubic kernel, unbiased.

    Args:
        a: `[N, D]`, two or more.
        b: `[M, D]`, two or more.
        still_wanted: Called between pieces of the matrices of all pairs.
    """

    def kernel(x: Matrix, y: Matrix) -> Matrix:
        product = x @ y.T / x.shape[1] + 1
        cube: Matrix = product * product * product
        return cube

    return _mmd(a, b, kernel, still_wanted)


def mmd_rbf(a: Matrix, b: Matrix, sigma: float = DEFAULT_SIGMA, *, still_wanted: StillWanted = always_wanted) -> float:
    """The squared MMD by a Gaussian kernel, unbiased.

    Args:
        a: `[N, D]`, two or more.
        b: `[M, D]`, two or more.
        sigma: Width of the kernel, above 0.
        still_wanted: As for `mmd_polynomial`.
    """

    def kernel(x: Matrix, y: Matrix) -> Matrix:
        squares = np.sum(x * x, axis=1)[:, None] + np.sum(y * y, axis=1)[None, :] - 2 * (x @ y.T)
        found: Matrix = np.exp(np.maximum(squares, 0.0) / (-2 * sigma * sigma))
        return found

    return _mmd(a, b, kernel, still_wanted)


def _factor(rows: Matrix) -> tuple[Matrix, Matrix]:
    """The mean, and a matrix F of few rows with F'F the covariance."""
    mean = rows.mean(axis=0)
    centred = (rows - mean) / np.sqrt(len(rows) - 1)
    if centred.shape[0] <= centred.shape[1]:
        return mean, centred
    return mean, np.asarray(np.linalg.qr(centred, mode="r"))


def _mmd(a: Matrix, b: Matrix, kernel: Kernel, still_wanted: StillWanted) -> float:
    within_a = _mean(a, a, kernel, still_wanted, is_same=True)
    within_b = _mean(b, b, kernel, still_wanted, is_same=True)
    return within_a + within_b - 2 * _mean(a, b, kernel, still_wanted)


def _mean(x: Matrix, y: Matrix, kernel: Kernel, still_wanted: StillWanted, *, is_same: bool = False) -> float:
    """The mean of the kernel over all pairs, over those of different members where both are one set."""
    total = 0.0
    for first in range(0, len(x), ROWS_AT_A_TIME):
        still_wanted()
        part = kernel(x[first : first + ROWS_AT_A_TIME], y[first:] if is_same else y)
        total += float(part.sum())
        if is_same:  # what is right of the diagonal piece stands for what is below it as well
            total += float(part[:, len(part) :].sum()) - float(np.trace(part))
    return total / (len(x) * (len(y) - (1 if is_same else 0)))
