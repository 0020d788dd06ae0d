"""What a question-answering encoder says of an image and a text."""

import math
from dataclasses import dataclass


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
