"""The arithmetic of the tables: pure functions of scores and labels."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr, spearmanr

Vector = NDArray[np.float64]


def best_tied_accuracy(scores: Vector, human: Vector) -> tuple[float, float]:
    """Pairwise accuracy with the threshold for ties that makes it highest.

    Deutsch, Foster and Freitag, "Ties Matter", EMNLP 2023, arXiv:2305.14324, section 5: a pair is right where scores
    and people order it alike, or where both tie it; scores tie where they differ by at most the threshold. The
    threshold is chosen on the same pairs, as the programs of VQAScore and GenAI-Bench do.

    Args:
        scores: `[N]`, at least two.
        human: `[N]`; equal values are ties.

    Returns:
        The accuracy, 0 to 1, and the lowest threshold that gives it.
    """
    base, gaps, gains = _tie_effects(scores, human)
    order = np.argsort(gaps, kind="stable")
    sorted_gaps = gaps[order]
    right = base + np.cumsum(gains[order], dtype=np.int64)
    is_last = np.append(sorted_gaps[1:] != sorted_gaps[:-1], True)[: len(sorted_gaps)]
    candidates = np.concatenate([[base], right[is_last]])
    thresholds = np.concatenate([[0.0], sorted_gaps[is_last]])
    best = int(np.argmax(candidates))
    num_pairs = len(scores) * (len(scores) - 1) / 2
    return float(candidates[best] / num_pairs), float(thresholds[best])


def _tie_effects(scores: Vector, human: Vector) -> tuple[int, Vector, NDArray[np.int8]]:
    """How many pairs are right without a threshold, and what pairs gain or lose once one reaches them.

    Returns:
        The count; of the pairs that change, how far their scores are apart, and 1 where people tie them, else -1.
    """
    base, gaps, gains = 0, [np.empty(0)], [np.empty(0, np.int8)]
    for index in range(len(scores) - 1):
        differences = scores[index] - scores[index + 1 :]
        preferences = np.sign(human[index] - human[index + 1 :])
        is_tie, is_apart = preferences == 0, differences != 0
        is_concordant = np.sign(differences) * preferences > 0
        base += int(np.sum(is_concordant)) + int(np.sum(is_tie & ~is_apart))
        changes = (is_tie & is_apart) | is_concordant
        gaps.append(np.abs(differences[changes]))
        gains.append(np.where(is_tie[changes], 1, -1).astype(np.int8))
    return base, np.concatenate(gaps), np.concatenate(gains)


def kendall(scores: Vector, human: Vector, variant: str) -> float:
    """Kendall's tau, -1 to 1; NaN where one is constant.

    Args:
        scores: `[N]`.
        human: `[N]`.
        variant: `b`, or `c` for few different labels.
    """
    found: Any = kendalltau(scores, human, variant=variant)
    return float(found.statistic)


def spearman(scores: Vector, human: Vector) -> float:
    """Rank correlation, -1 to 1; NaN where one is constant.

    Args:
        scores: `[N]`.
        human: `[N]`.
    """
    if len(np.unique(scores)) < 2 or len(np.unique(human)) < 2:  # noqa: PLR2004 - two different values
        return float("nan")
    found: Any = spearmanr(scores, human)
    return float(found.statistic)


def pearson(scores: Vector, human: Vector) -> float:
    """Linear correlation without a fitted curve, -1 to 1; NaN where one is constant.

    Args:
        scores: `[N]`.
        human: `[N]`.
    """
    if len(np.unique(scores)) < 2 or len(np.unique(human)) < 2:  # noqa: PLR2004 - two different values
        return float("nan")
    found: Any = pearsonr(scores, human)
    return float(found.statistic)


def average_precision(scores: Vector, is_positive: NDArray[np.bool_]) -> float:
    """Mean over the positives of the precision among all that score at least as high; NaN without positives.

    The step-wise sum without interpolation: equal scores stand at one threshold.

    Args:
        scores: `[N]`.
        is_positive: `[N]`.
    """
    num_positive = int(np.sum(is_positive))
    if num_positive == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(is_positive[order])
    is_last = np.append(np.diff(scores[order]) != 0, True)
    hits, taken = hits[is_last], (np.arange(len(scores)) + 1)[is_last]
    gained = np.diff(np.concatenate([[0], hits]))
    return float(np.sum(gained * hits / taken) / num_positive)


def pair_accuracies(squares: NDArray[np.float64]) -> dict[str, float]:
    """Winoground's text, image and group accuracies; equal scores are wrong.

    Thrush et al., "Winoground", CVPR 2022, arXiv:2204.03162, section 3.

    Args:
        squares: `[N, 2, 2]`: of each example the scores by image, then by caption; they belong together on the
            diagonal.
    """
    text = (squares[:, 0, 0] > squares[:, 0, 1]) & (squares[:, 1, 1] > squares[:, 1, 0])
    image = (squares[:, 0, 0] > squares[:, 1, 0]) & (squares[:, 1, 1] > squares[:, 0, 1])
    return {"text": float(text.mean()), "image": float(image.mean()), "group": float((text & image).mean())}


def uninverted(scores: Sequence[float], ranks: Sequence[float]) -> float:
    """Share of an item's pairs that scores do not order against people, 0 to 1.

    As HPSv2's program has it: images are ranked by score, equal ones in their order, and pairs that people tie count
    as right.

    Args:
        scores: Of at least two images.
        ranks: Of the same by people; lower is better.
    """
    places = np.argsort(np.argsort(-np.asarray(scores), kind="stable"), kind="stable")
    pairs = list(combinations(range(len(scores)), 2))
    wrong = sum((places[i] - places[j]) * (ranks[i] - ranks[j]) < 0 for i, j in pairs)
    return float(1.0 - wrong / len(pairs))
