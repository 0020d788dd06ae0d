"""How a score correlates with what people want among images of one prompt, with its interval.

Some prompts are easier than others, and their images are better by score and by people's word: over all images a score
correlates that says nothing of the images of one prompt, among which best-of-N chooses. So both are centred within each
prompt. That leaves the partial correlation given the prompt, whose law is that of a correlation of as many fewer pairs
as there are prompts less one: Fisher, "The distribution of the partial correlation coefficient", Metron 3, 1924, with
`atanh(r)` near normal of variance `1 / (n - prompts - 2)`.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.decisions.fields import invalid

_LEAST_DEGREES: Final = 1  # of freedom, for an interval


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation within prompts."""

    value: float
    """In [-1, 1]."""
    low: float
    """Lower end of its interval."""
    high: float
    num_pairs: int
    """Images that count: those of prompts with at least two."""
    num_prompts: int
    """Prompts with at least two."""


def within_prompts(
    scores: Sequence[float], human: Sequence[float], prompts: Sequence[Hashable], *, confidence: float = 0.95
) -> Correlation:
    """The correlation of scores with people's judgements, within prompts.

    Args:
        scores: Of images that nobody chose by them.
        human: What people say of each, higher is better.
        prompts: The prompt of each.
        confidence: Of the interval, in (0, 1).

    Raises:
        InvalidFieldError: One of them is not as said, or there are too few images of one prompt.
    """
    if not 0.0 < confidence < 1.0:
        raise invalid("/confidence", "is not between 0 and 1")
    columns = [_checked("scores", scores, len(scores)), _checked("human", human, len(scores))]
    if len(prompts) != len(scores):
        raise invalid("/prompts", f"has {len(prompts)} entries for {len(scores)} scores")
    members: dict[Hashable, list[int]] = {}
    for index, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(index)
    groups = [indices for indices in members.values() if len(indices) > 1]
    num_pairs = sum(map(len, groups))
    degrees = num_pairs - len(groups) - 2
    if degrees < _LEAST_DEGREES:
        raise invalid("/prompts", f"has {num_pairs} images of prompts with several, which says nothing")
    centred = [np.concatenate([_centred(column[each]) for each in groups]) for column in columns]
    value = _correlation(*centred)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) / math.sqrt(degrees)
    low, high = (value, value) if abs(value) >= 1.0 else _interval(value, reach)
    return Correlation(value, low, high, num_pairs, len(groups))


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Less their mean; exactly 0 where all are equal, of which a rounded mean would leave something."""
    return np.asarray(values - (values[0] if np.ptp(values) == 0.0 else values.mean()))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    spread = math.sqrt(math.fsum(first**2) * math.fsum(second**2))
    if not spread:
        raise invalid("/scores", "or human is the same for all images of each prompt")
    return min(1.0, max(-1.0, math.fsum(first * second) / spread))


def _interval(value: float, reach: float) -> tuple[float, float]:
    return math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach)


def _checked(field: str, values: Sequence[float], num: int) -> NDArray[np.float64]:
    if len(values) != num:
        raise invalid(f"/{field}", f"has {len(values)} entries for {num} scores")
    found = np.asarray(values, dtype=np.float64)
    for index in np.flatnonzero(~np.isfinite(found)):
        raise invalid(f"/{field}/{index}", "is not a finite number")
    return found
