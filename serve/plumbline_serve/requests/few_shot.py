"""A classifier of a few images per class, as a scorer: what it is made from, and what it says of an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import MissingImageError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Encoding, Score, ScorerInfo
from plumbline_models.decisions.gaussian_discriminant import LOGIT_SCALE, Chosen, choose_mixing, discriminant
from plumbline_serve.messages.decisions import CLASSIFIER_PREFIX, MADE

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was learnt: a linear map from a unit encoding to a logit per class."""

    classes: Sequence[str]
    weights: Matrix
    """`[K, D]`, prompts and discriminant together."""
    bias: Matrix
    """`[K]`."""

    @classmethod
    def of(
        cls, classes: Sequence[str], encodings: Matrix, labels: Sequence[int], prompts: Matrix
    ) -> tuple[Self, Chosen]:
        """Learn from images.

        Args:
            classes: Their names.
            encodings: `[N, D]`, unit norm.
            labels: The class of each.
            prompts: `[K, D]`, unit norm.

        Returns:
            What was learnt, and how well it does on what was left out.

        Raises:
            InvalidFieldError: A class has fewer than two images, or nothing can be learnt from them.
        """
        chosen = choose_mixing(encodings, labels, prompts)
        found = discriminant(encodings, labels, len(classes))
        weights = LOGIT_SCALE * prompts + chosen.mixing * found.weights
        return cls(tuple(classes), weights, chosen.mixing * found.bias), chosen

    def document(self) -> dict[str, Any]:
        """As JSON, to be kept."""
        return {"classes": list(self.classes), "weights": self.weights.tolist(), "bias": self.bias.tolist()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """As `document` wrote it."""
        weights, bias = np.asarray(document["weights"], np.float64), np.asarray(document["bias"], np.float64)
        return cls(tuple(document["classes"]), weights, bias)

    def probabilities(self, encoding: Encoding) -> Matrix:
        """Of each class, together 1.

        Args:
            encoding: `[D]`, of unit norm or of any other.
        """
        logits = self.weights @ unit(encoding) + self.bias
        weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum())


class FewShotScorer:
    """The probability of a classifier's first class; a `Scorer`, but that its info is its own.

    Args:
        name: Of the classifier.
        learnt: What it says.
        image: Encodes images as those that it was made from.
        made: When: what was calibrated on another of its name does not hold for it.
        relative_cost: As `Scorer` has it.
    """

    def __init__(self, name: str, learnt: Learnt, image: Encoder, *, made: str, relative_cost: float) -> None:
        self.info = info_of(name, learnt.classes)
        self.image: Encoder | None = image
        self.text: Encoder | None = None
        self.pair: Encoder | None = None
        self.conventions = conventions_of(learnt.classes, made)
        self.relative_cost = relative_cost
        self._learnt = learnt

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """It is made from images and not from a section of the configuration."""
        raise NotImplementedError

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each image.

        Args:
            batch: `images` holds an encoding of each.

        Returns:
            Values in [0, 1]; `class` names the most probable one, `probabilities` has all of them.

        Raises:
            MissingImageError: The batch has no images.
        """
        if batch.images is None:
            raise MissingImageError(f"{self.info.name} needs an image.", scorer=self.info.name)
        return [self._score(encoding) for encoding in batch.images]

    def _score(self, encoding: Encoding) -> Score:
        found = self._learnt.probabilities(encoding)
        classes = self._learnt.classes
        each = {name: float(probability) for name, probability in zip(classes, found, strict=True)}
        return Score(each[classes[0]], {"class": classes[int(found.argmax())], "probabilities": each})


def info_of(name: str, classes: Sequence[str]) -> ScorerInfo:
    """What a classifier answers as a scorer.

    Args:
        name: Of the classifier.
        classes: Its own; the value is the probability of the first.
    """
    return ScorerInfo(
        name=f"{CLASSIFIER_PREFIX}{name}",
        summary=f"Probability that the image is of the class {classes[0]}, learnt from a few images.",
        needs=frozenset({"image"}),
        low=0.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2402.04087",
    )


def conventions_of(classes: Sequence[str], made: str) -> Mapping[str, str]:
    """How a classifier's value is made: what was calibrated on another of its name does not hold for it.

    Args:
        classes: Its own.
        made: When.
    """
    return {"class": classes[0], MADE: made}


def unit(encoding: Encoding) -> Matrix:
    """An encoding in float64, of unit norm: some scorers' encodings carry a scale as their length."""
    vector = np.asarray(encoding, np.float64)
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector
