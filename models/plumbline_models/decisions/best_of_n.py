"""What choosing the best of N by a score is sure to gain in what people want.

Laidlaw, Singhal, Dragan, "Correlated Proxies: A New Definition and Improved Mitigation for Reward Hacking", ICLR 2025,
arXiv:2403.03185, theorem 5.1: where a score correlates by r with the true reward over the images as they are drawn,
any way of choosing among them gains, in standard deviations, at least

    (gain of the score - sqrt(1 - r^2) sqrt(chi2)) / r

in the true reward. Choosing the best of N changes the law of the images by `chi2 = (N - 1)^2 / (2 N - 1)`, for scores
without ties. The bound is no forecast: it says how far nothing can go wrong. It is worth as much as the labels that r
was measured on, which have to be of images that nobody chose, centred within each prompt.
"""

import math
from functools import cache
from typing import Final

import numpy as np

from plumbline_models.decisions.fields import invalid

MAX_N: Final = 4096
_NUM_POINTS, _WIDEST = 20_001, 12.0  # of the quadrature; beyond so many deviations a density is below 1e-31


def chi2(n: int) -> float:
    """The chi-square divergence of the best of n from a single draw.

    Args:
        n: Images to choose from; at least 1.
    """
    return (n - 1) ** 2 / (2 * n - 1)


@cache
def normal_gain(n: int) -> float:
    """The expectation of the largest of n standard normal numbers: what the score gains, in its deviations.

    Args:
        n: 1 to `MAX_N`.
    """
    if n == 1:
        return 0.0  # the sum below is so but for rounding
    from scipy.special import log_ndtr  # noqa: PLC0415 - takes long to import, and few need it

    at = np.linspace(-_WIDEST, _WIDEST, _NUM_POINTS)
    log_density = math.log(n) - 0.5 * at**2 - 0.5 * math.log(2 * math.pi) + (n - 1) * log_ndtr(at)
    return math.fsum(at * np.exp(log_density)) * float(at[1] - at[0])


def certified_gain(n: int, correlation: float) -> float:
    """The least gain in the true reward, in its standard deviations, for scores of normal law; may be negative.

    Args:
        n: Images to choose from, 1 to `MAX_N`.
        correlation: Of score and true reward, in (0, 1]; the lower end of its interval, where that is known.

    Raises:
        InvalidFieldError: One of them is not as said.
    """
    if not 1 <= n <= MAX_N:
        raise invalid("/n", f"is not between 1 and {MAX_N}")
    if not 0.0 < correlation <= 1.0:
        raise invalid("/correlation", "is not above 0 and at most 1")
    spread = math.sqrt(max(0.0, 1.0 - correlation**2) * chi2(n))
    return (normal_gain(n) - spread) / correlation


def largest_certified_n(correlation: float) -> int:
    """The largest n whose gain is certified to be above 0; 1 where none is.

    Args:
        correlation: As for `certified_gain`.

    Returns:
        1 to `MAX_N`, which also stands for more.
    """
    if certified_gain(MAX_N, correlation) > 0.0:
        return MAX_N
    n = 1
    while certified_gain(n + 1, correlation) > 0.0:  # it rises from 0 at 1 if it ever does, and then falls for good
        n += 1
    return n
