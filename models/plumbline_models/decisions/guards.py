"""Signs that an image was made for the score, or is of a kind that the score knows nothing of.

- `anchor_mean`: the mean cosine of an image with texts that have nothing in common, which is its product with their
  mean. An image that was made to fit many texts at once is near all of them: Freiberger et al., "CLIPMasterPrints",
  2023, arXiv:2307.03798.
- `mahalanobis`: how far its encoding lies from those of real images, by the few-shot classifier's shrunk precision.
- `max_softmax`: how sure the best of several texts is, Ming et al., "Delving into Out-of-Distribution Detection with
  Vision-Language Representations", 2022, arXiv:2211.13445 (MCM).
- `positive_mass`: the share of the texts in question beside texts that are far from all of them, Jiang et al.,
  "Negative Label Guided OOD Detection with Pretrained Vision-Language Models", 2024, arXiv:2403.20078 (NegLabel).
- `largest_drop`: how far a score falls when an image is looked at a little differently. Perturbations that raise a
  score seldom survive that.

They find attackers who do not know of them. Whoever puts them into the loss passes: with one text, always. Each number
is computed for one image by itself, so that it depends neither on a batch nor on its order.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from plumbline_models.decisions.conformal import calibrate
from plumbline_models.decisions.fields import invalid
from plumbline_models.decisions.gaussian_discriminant import precision_of

FALSE_ALARMS: Final = 0.01
"""The share of real images that a threshold flags, at most, on average over the images that it is set on."""
LEAST_IMAGES: Final = math.ceil(1 / FALSE_ALARMS) - 1
"""To set a line on; as many again tell what real images are like."""
LEAST_ANCHORS: Final = 8

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Guard:
    """What real images are like, and texts: what an image is held against."""

    mean: Vector
    """`[D]`, of the encodings of real images."""
    precision: Matrix
    """`[D, D]`, of the same."""
    centroid: Vector
    """`[D]`, the mean of the anchors' encodings."""
    anchor_line: float
    """Above which an `anchor_mean` is suspect."""
    distance_line: float
    """Above which a `mahalanobis` is suspect."""
    distances: Sequence[float]
    """Of real images that the mean was not made of, ascending."""

    @classmethod
    def of(cls, images: Matrix, anchors: Matrix) -> Self:
        """Of real images: every second tells what they are like, the others where lines are drawn.

        Args:
            images: `[N, D]`, unit norm.
            anchors: `[A, D]`, unit norm: texts that have nothing in common.

        Raises:
            InvalidFieldError: They are too few, or hardly differ.
        """
        if len(images) < 2 * LEAST_IMAGES:
            raise invalid("/images", f"are {len(images)}; at least {2 * LEAST_IMAGES} are needed")
        if len(anchors) < LEAST_ANCHORS:
            raise invalid("/texts", f"are {len(anchors)}; at least {LEAST_ANCHORS} are needed")
        known, fresh = images[::2], images[1::2]
        mean, centroid = known.mean(axis=0), anchors.mean(axis=0)
        precision = precision_of(known - mean)
        distances = sorted(mahalanobis(each, mean, precision) for each in fresh)
        anchor_line = alarm_line([anchor_mean(each, centroid) for each in fresh])
        return cls(mean, precision, centroid, anchor_line, alarm_line(distances), distances)

    def is_suspect(self, encoding: Vector) -> bool:
        """Whether an image looks as if it was made to fit many texts, or as none that is real.

        Args:
            encoding: `[D]`, unit norm.
        """
        distance = mahalanobis(encoding, self.mean, self.precision)
        return anchor_mean(encoding, self.centroid) > self.anchor_line or distance > self.distance_line

    def strangeness(self, encoding: Vector) -> float:
        """The share of real images that are nearer to their mean, in [0, 1].

        Args:
            encoding: `[D]`, unit norm.
        """
        distance = mahalanobis(encoding, self.mean, self.precision)
        return bisect_left(self.distances, distance) / len(self.distances)


def anchor_mean(encoding: Vector, centroid: Vector) -> float:
    """The mean cosine with the anchors.

    Args:
        encoding: `[D]`, unit norm.
        centroid: `[D]`: the mean of the anchors' unit encodings, whose norm is below 1.
    """
    return math.fsum(encoding * centroid)


def mahalanobis(encoding: Vector, mean: Vector, precision: Matrix) -> float:
    """The squared distance from real images, about 1 per dimension or less.

    Args:
        encoding: `[D]`, unit norm.
        mean: `[D]`, of the encodings of real images.
        precision: `[D, D]`, as of `precision_of`.
    """
    off = encoding - mean
    return math.fsum(off * (precision @ off))


def max_softmax(cosines: Sequence[float], scale: float) -> float:
    """How sure the best of several texts is, between 1 over their number and 1.

    Args:
        cosines: Of the image with each text, one or more.
        scale: What the checkpoint multiplies cosines by.
    """
    largest = max(cosines)
    return 1.0 / math.fsum(math.exp(scale * (each - largest)) for each in cosines)


def positive_mass(
    positives: Sequence[float], negatives: Sequence[float], scale: float, *, num_groups: int = 1
) -> float:
    """The softmax's share of the texts in question, mean over groups of the others; near 0 for what is none of them.

    Args:
        positives: Cosines of the image with the texts in question, one or more.
        negatives: The same with the others, at least one per group; those beyond a multiple of the groups are left out.
        scale: What the checkpoint multiplies cosines by.
        num_groups: Into which they are cut, in order.
    """
    size = len(negatives) // num_groups
    groups = [negatives[first * size : (first + 1) * size] for first in range(num_groups)]
    return math.fsum(_mass(positives, group, scale) for group in groups) / num_groups


def _mass(positives: Sequence[float], negatives: Sequence[float], scale: float) -> float:
    largest = max(*positives, *negatives)
    ours = math.fsum(math.exp(scale * (each - largest)) for each in positives)
    return ours / (ours + math.fsum(math.exp(scale * (each - largest)) for each in negatives))


def farthest(candidates: Matrix, positives: Matrix, *, num_kept: int, percentile: float = 0.95) -> list[int]:
    """Which texts are farthest from all of the texts in question.

    Args:
        candidates: `[N, D]`, unit norm.
        positives: `[K, D]`, unit norm.
        num_kept: So many.
        percentile: Of a candidate's cosines to them, by which it is known: not the largest, which one odd text decides.

    Returns:
        Indices, the farthest first.
    """
    known = np.quantile(candidates @ positives.T, percentile, axis=1, method="linear")
    return [int(index) for index in np.argsort(known, kind="stable")[:num_kept]]


def largest_drop(score: float, of_views: Sequence[float]) -> float:
    """How far a score falls in the view where it falls most; below 0 where it rises in all of them.

    Args:
        score: Of the image as it is, higher is better.
        of_views: Of the image as changed, one or more.
    """
    return score - min(of_views)


def alarm_line(statistics: Sequence[float]) -> float:
    """Above which a statistic is one that real images hardly have.

    Args:
        statistics: Of real images.

    Raises:
        InvalidFieldError: They are fewer than `LEAST_IMAGES`.
    """
    good = [True] * len(statistics)
    found = calibrate(statistics, good, alpha=FALSE_ALARMS, direction="keep_good", higher_is_better=False).value
    if found is None:
        raise invalid("/images", f"give {len(statistics)} numbers; at least {LEAST_IMAGES} are needed")
    return found
