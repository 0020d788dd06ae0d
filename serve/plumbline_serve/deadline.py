"""When an answer stops being of use."""

import math
import time
from dataclasses import dataclass
from typing import Self

from plumbline_models.core.errors import DeadlineExceededError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on this process's monotonic clock; `math.inf` where the caller set none.

    Processes do not share the clock: what crosses a border is `remaining_s`, from which the other side makes a
    deadline of its own.
    """

    at_s: float = math.inf

    @classmethod
    def after_ms(cls, timeout_ms: float | None) -> Self:
        """The deadline that many milliseconds from now; none for None."""
        return cls() if timeout_ms is None else cls(time.monotonic() + timeout_ms / 1000)

    @classmethod
    def after_s(cls, remaining_s: float | None) -> Self:
        """The deadline that many seconds from now; none for None."""
        return cls.after_ms(None if remaining_s is None else remaining_s * 1000)

    @property
    def remaining_s(self) -> float | None:
        """Seconds left, not below 0; None where there is no deadline."""
        return None if math.isinf(self.at_s) else max(0.0, self.at_s - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether nobody waits any more."""
        return time.monotonic() >= self.at_s

    def error(self, stage: str) -> DeadlineExceededError:
        """What to raise or to answer when it has passed, with the stage that it passed in."""
        return DeadlineExceededError("The deadline passed before the answer was ready.", stage=stage)
