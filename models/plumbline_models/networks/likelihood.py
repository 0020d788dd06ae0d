"""What a question-answering encoder says of an image and a text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError, PlumblineError


@dataclass(frozen=True, slots=True)
class AnswerLikelihood:
    """How likely an answer is, in natural logarithms."""

    log_probs: tuple[float, ...]
    """Of each scored token of the answer, given those before it; at least one."""
    rival_log_prob: float
    """That the answer begins with the first token of `No`."""
    has_end: bool = True
    """Whether the last of `log_probs` is end-of-sequence."""

    @property
    def mean_prob(self) -> float:
        """The geometric mean of the probabilities, 0 to 1."""
        return math.exp(math.fsum(self.log_probs) / len(self.log_probs))

    @property
    def words_log_prob(self) -> float:
        """Of the answer's words together, without end-of-sequence."""
        return math.fsum(self.log_probs[:-1] if self.has_end else self.log_probs)

    @property
    def end_log_prob(self) -> float | None:
        """That the answer ends after its words; None where that is not scored."""
        return self.log_probs[-1] if self.has_end else None


def read_likelihoods(
    outputs: Mapping[str, Array], lengths: Sequence[int], *, has_end: bool = True
) -> list[AnswerLikelihood | PlumblineError]:
    """An engine's arrays as likelihoods, or an error for each row in which there is no number.

    Args:
        outputs: `answer_log_probs` `[N, K]` and `rival_log_prob` `[N, 1]`.
        lengths: Tokens of each row's answer; what stands behind them is filling.
        has_end: Whether answers are scored with their end.
    """
    rows = zip(outputs["answer_log_probs"], outputs["rival_log_prob"], lengths, strict=True)
    return [_read(log_probs[:length], rival, has_end=has_end) for log_probs, rival, length in rows]


def _read(log_probs: Array, rival: Array, *, has_end: bool) -> AnswerLikelihood | PlumblineError:
    if not (np.isfinite(log_probs).all() and np.isfinite(rival).all()):
        return EngineError("The engine gave no number for this pair.")
    return AnswerLikelihood(tuple(log_probs.tolist()), rival_log_prob=float(rival[0]), has_end=has_end)
