"""How many different things a set holds: the Vendi score by order, and the mean cosine of its pairs.

Friedman, Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning", TMLR 2023, arXiv:2210.02410;
orders other than 1: Pasarkar, Dieng, "Cousins Of The Vendi Score", AISTATS 2024, arXiv:2310.12952. It is the
exponential of the Renyi entropy of the eigenvalues of K/n, K the cosines of all pairs: 1 where all are the same, n
where all are orthogonal. The same eigenvalues, but for zeros, has X'X/n, which is smaller where there are fewer
dimensions than encodings.

The cosines of one encoder lie in a cone, which presses the score down: 64 unrelated pictures whose cosines are about
0.75 have a score near 5. Scores of two encoders are therefore never compared. The centred score is that of the spread
about the mean.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from plumbline_models.sets.vectors import Floats, Matrix

LEAST_ORDER: Final = 0.5
"""Below it the rounding noise of eigenvalues that are zero counts for more than the others."""
MOST_ORDER: Final = 1000.0
_NEAR_ONE: Final = 1e-6  # orders closer to 1 are taken for 1, where the formula is 0/0
_LEAST_SHARE: Final = 1e-14  # of all eigenvalues together; smaller ones are rounding


def eigenvalues(unit: Matrix, weights: Sequence[float] | None = None, *, is_centred: bool = False) -> Floats:
    """The spectrum of a set, by the smaller of two matrices.

    Args:
        unit: `[N, D]` of unit length.
        weights: How much each encoding counts, above 0; None: all alike.
        is_centred: Whether the mean is taken away first.

    Returns:
        `[min(N, D)]`, at least 0, with sum 1; all zero where a centred set has no spread.
    """
    shares = np.full(len(unit), 1 / len(unit)) if weights is None else _shares(weights)
    rows = unit - shares @ unit if is_centred else unit
    scaled = rows * np.sqrt(shares)[:, None]
    small = scaled.T @ scaled if scaled.shape[1] < scaled.shape[0] else scaled @ scaled.T
    found = np.linalg.eigvalsh((small + small.T) / 2)
    # Each row has unit length, so the trace is 1 but for rounding and for the mean.
    found[found < _LEAST_SHARE] = 0.0
    total = float(found.sum())
    return found / total if total > 0 else found


def vendi(spectrum: Floats, order: float = 1.0) -> float:
    """The effective number of different encodings.

    Args:
        spectrum: Of `eigenvalues`.
        order: Of the entropy, `LEAST_ORDER` to `MOST_ORDER`, or infinity. The larger, the less rare ones count.

    Returns:
        1 to N; 1 for a spectrum without any spread.
    """
    present = spectrum[spectrum > 0]
    if not present.size:
        return 1.0
    logs = np.log(present)
    if math.isinf(order):
        return float(np.exp(-logs.max()))
    if abs(order - 1) < _NEAR_ONE:
        return float(np.exp(-np.sum(present * logs)))
    top = float(logs.max())
    log_sum = order * top + math.log(float(np.sum(np.exp(order * (logs - top)))))
    return math.exp(log_sum / (1 - order))


def order_name(order: float) -> str:
    """What an order is called in replies: `1`, `0.5`, `inf`."""
    return str(int(order)) if order.is_integer() else repr(float(order))


def mean_pairwise(unit: Matrix) -> float | None:
    """The mean cosine of all pairs of different encodings, -1 to 1; None where there is no pair.

    Args:
        unit: `[N, D]` of unit length.
    """
    num = len(unit)
    if num == 1:
        return None
    total = unit.sum(axis=0)  # its squared length is the sum of all cosines, those with themselves too
    return float((total @ total - np.sum(unit * unit)) / (num * (num - 1)))


def _shares(weights: Sequence[float]) -> Floats:
    given = np.array(weights, np.float64)
    given /= given.max()  # the sum of very large ones would overflow
    given /= given.sum()
    return given
