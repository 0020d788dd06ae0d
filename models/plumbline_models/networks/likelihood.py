"""What a question-answering encoder says of an image and a text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from plumbline_models.core.arrays import Array


@dataclass(frozen=True, slots=True)
class AnswerLikelihood:
    """How likely an answer is, in natural logarithms."""

    log_probs: tuple[float, ...]
    """Of each scored token of the answer, given those before it; at least one."""
    rival_log_prob: float
    """That the answer begins with the first token of `No`."""
    has_end: bool = True
    """Whether the last of `log_probs` is end-of-sequence."""

    @classmethod
    def read(cls, outputs: Mapping[str, Array], length: int, *, has_end: bool = True) -> Self:
        """From what an engine gave for one pair.

        Args:
            outputs: `answer_log_probs` `[K]` and `rival_log_prob` `[1]`.
            length: Tokens of the answer; what stands behind them is padding.
            has_end: Whether answers are scored with their end.
        """
        log_probs = outputs["answer_log_probs"][:length].tolist()
        return cls(tuple(log_probs), rival_log_prob=float(outputs["rival_log_prob"][0]), has_end=has_end)

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that must be finite."""
        return (*self.log_probs, self.rival_log_prob)

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
