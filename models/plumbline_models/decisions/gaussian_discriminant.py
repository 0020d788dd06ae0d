"""A classifier of a few images per class: Gaussian discriminant analysis on encodings, beside the zero-shot answer.

Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024, arXiv:2402.04087. With unit
encodings, class means m_k and the covariance S of what is left of n encodings in d dimensions,

    P = d pinv((n - 1) S + tr(S) I)    w_k = P m_k    b_k = -ln K - m_k' P m_k / 2
    logits = 100 z T' + alpha (z W' + b)

Their program chooses alpha on a validation set, which for ImageNet is the test set; here it is chosen by folds of what
is given. A fixed alpha costs up to 14 points at two shots. One shot is refused: without a second, nothing of it is left
when its class's mean is taken away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.decisions.fields import invalid

LEAST_SHOTS: Final = 2
LOGIT_SCALE: Final = 100.0
ALPHAS: Final = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Weights of the discriminant to choose among; 0 leaves it out."""
MAX_FOLDS: Final = 10
_LEAST_SPREAD: Final = 1e-12  # trace of the covariance: below, encodings of a class are all the same

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Discriminant:
    """Linear in a unit encoding: `weights @ z + bias`, a logit per class."""

    weights: Matrix
    """`[K, D]`."""
    bias: Matrix
    """`[K]`."""

    def logits(self, encodings: Matrix) -> Matrix:
        """`[N, K]` of `[N, D]`."""
        return np.asarray(encodings @ self.weights.T + self.bias)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A weight for the discriminant, and what folds say of it."""

    mixing: float
    """Alpha: what the discriminant's logits are multiplied by before they are added; 0: zero-shot alone is as good."""
    accuracy_cv: float
    """Share of right answers on images that were left out, with that weight; chosen among several, so a little high."""
    accuracy_zero_shot: float
    """The same of the prompts alone."""


def precision_of(centred: Matrix) -> Matrix:
    """The shrunk inverse covariance of encodings, `[D, D]`.

    Args:
        centred: `[N, D]`, each less its class's mean; N is 2 or more.

    Raises:
        InvalidFieldError: They do not vary.
    """
    num, dim = centred.shape
    covariance = np.cov(centred, rowvar=False).reshape(dim, dim)
    trace = float(np.trace(covariance))
    if trace < _LEAST_SPREAD:
        raise invalid("/classes", "hold the same image again and again, so that nothing can be learnt from them")
    shrunk = (num - 1) * covariance + trace * np.eye(dim)  # no eigenvalue is below the trace: pinv is the inverse
    return np.asarray(dim * np.linalg.inv(shrunk))


def class_means(encodings: Matrix, labels: Sequence[int], num_classes: int) -> Matrix:
    """`[K, D]`.

    Args:
        encodings: `[N, D]`.
        labels: The class of each.
        num_classes: K; each has one or more.
    """
    chosen = np.asarray(labels)
    return np.stack([encodings[chosen == each].mean(axis=0) for each in range(num_classes)])


def discriminant(encodings: Matrix, labels: Sequence[int], num_classes: int) -> Discriminant:
    """The discriminant of encodings whose class is known.

    Args:
        encodings: `[N, D]` of unit norm.
        labels: The class of each, 0 to K - 1.
        num_classes: K, two or more.

    Raises:
        InvalidFieldError: A class has fewer than two, or encodings do not vary within their classes.
    """
    check_shots(labels, num_classes)
    return _made(encodings, labels, num_classes)


def mixed_logits(zero_shot: Matrix, found: Matrix, mixing: float) -> Matrix:
    """Logits of prompts and discriminant together, `[N, K]`.

    Args:
        zero_shot: Cosines of encodings and the classes' prompts.
        found: The discriminant's logits.
        mixing: Its weight.
    """
    return LOGIT_SCALE * zero_shot + mixing * found


def choose_mixing(encodings: Matrix, labels: Sequence[int], prompts: Matrix) -> Chosen:
    """The weight that answers best on images that were left out when the discriminant was made.

    Args:
        encodings: `[N, D]` of unit norm.
        labels: The class of each, 0 to K - 1, two or more of each.
        prompts: `[K, D]` of unit norm: the encodings of the classes' prompts.

    Returns:
        The least weight among those that answer best.

    Raises:
        InvalidFieldError: As for `discriminant`.
    """
    num_classes = len(prompts)
    check_shots(labels, num_classes)
    given, folds = np.asarray(labels), _folds(labels)
    zero_shot = encodings @ prompts.T
    found = np.zeros_like(zero_shot)
    for fold in range(int(folds.max()) + 1):
        left_out = folds == fold
        rest = _made(encodings[~left_out], [int(each) for each in given[~left_out]], num_classes)
        found[left_out] = rest.logits(encodings[left_out])
    right = [int((mixed_logits(zero_shot, found, each).argmax(axis=1) == given).sum()) for each in ALPHAS]
    best = max(right)
    return Chosen(ALPHAS[right.index(best)], best / len(given), right[0] / len(given))


def check_shots(labels: Sequence[int], num_classes: int) -> None:
    """See that each class has two or more.

    Args:
        labels: Of the images.
        num_classes: How many classes there are.

    Raises:
        InvalidFieldError: One has fewer.
    """
    if num_classes < 2:  # noqa: PLR2004 - one class is no choice
        raise invalid("/classes", "are fewer than two")
    counts = np.bincount(np.asarray(labels, np.int64), minlength=num_classes)
    if counts.min() < LEAST_SHOTS:
        raise invalid("/classes", f"need {LEAST_SHOTS} images each; one has {counts.min()}")


def _folds(labels: Sequence[int]) -> NDArray[np.int64]:
    """The fold of each: those of a class lie in different ones, so that a fold leaves one or more of every class."""
    folds = np.empty(len(labels), np.int64)
    folds[np.argsort(np.asarray(labels), kind="stable")] = np.arange(len(labels)) % min(MAX_FOLDS, len(labels))
    return folds


def _made(encodings: Matrix, labels: Sequence[int], num_classes: int) -> Discriminant:
    """As `discriminant`, where a class may have one."""
    means = class_means(encodings, labels, num_classes)
    weights = means @ precision_of(encodings - means[np.asarray(labels)])
    return Discriminant(weights, -np.log(num_classes) - 0.5 * np.einsum("kd,kd->k", weights, means))
