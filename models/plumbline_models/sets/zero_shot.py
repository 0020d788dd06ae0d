"""Labels by the nearest prompt, with abstention.

The prompts of all groups compete by a softmax over cosines, as CLIP classifies without examples (Radford et al., 2021,
arXiv:2103.00020, section 3.1). Where the best is not ahead of the second by a margin, there is no label: an audit of
guesses would count what the encoder believes of people, and not what the images show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.vectors import Matrix

TEMPERATURE: Final = 0.01  # CLIP's own, at the end of its training
MARGIN: Final = 0.2


@dataclass(frozen=True, slots=True)
class Guess:
    """What one member is taken for."""

    label: str | None
    """None: no group was far enough ahead."""
    confidence: float
    """The probability of the best group among those declared, 1/k to 1; not that it is right."""


def guesses(images: Matrix, prompts: Matrix, groups: Sequence[str], *, margin: float = MARGIN) -> list[Guess]:
    """The nearest group of each image.

    Args:
        images: `[N, D]` of unit length.
        prompts: `[K, D]` of unit length, one for each group; two or more.
        groups: Their names.
        margin: By how much the best probability has to be above the second, 0 to 1.

    Raises:
        InvalidFieldError: The images' encodings have another length than the prompts'.
    """
    if images.shape[1] != prompts.shape[1]:
        detail = f"must have {prompts.shape[1]} numbers in each encoding, as those of the prompts have"
        raise InvalidFieldError("The set is of another encoder.", errors=[{"pointer": "/embeddings", "detail": detail}])
    logits = images @ prompts.T / TEMPERATURE
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = weights / weights.sum(axis=1, keepdims=True)
    order = np.argsort(-found, axis=1, kind="stable")
    best, second = (np.take_along_axis(found, order[:, place : place + 1], axis=1)[:, 0] for place in (0, 1))
    return [
        Guess(groups[int(place)] if ahead else None, float(confidence))
        for place, ahead, confidence in zip(order[:, 0], best - second >= margin, best, strict=True)
    ]
