"""How long the caller of a request waits, by the wire and by the request, and what is left of it."""

from dataclasses import dataclass, replace
from typing import TypeVar

from plumbline_serve.messages.sets import AnyRequest
from plumbline_serve.scheduling.concurrency import Deadline

M = TypeVar("M", bound=AnyRequest)


@dataclass(frozen=True, slots=True)
class CallerTimeout:
    """How long the wire says that the caller waits, and since when, on the monotonic clock."""

    started_s: float
    timeout_ms: float | None = None

    def remaining_ms(self, timeout_ms: float | None) -> float | None:
        """What is left of the smaller of two timeouts, the wire's and the request's; None: there is no limit.

        Raises:
            DeadlineExceededError: Nothing is left.
        """
        timeouts = [each for each in (self.timeout_ms, timeout_ms) if each is not None]
        if not timeouts:
            return None
        deadline = Deadline(self.started_s + min(timeouts) / 1000)
        if deadline.has_passed:
            raise deadline.error("receive")
        return (deadline.remaining_s or 0.0) * 1000


def with_remaining_time(request: M, timeout: CallerTimeout) -> M:
    """The request with what is left of its time, now that it is read.

    Args:
        request: With the timeout that it names itself.
        timeout: What the wire says.

    Raises:
        DeadlineExceededError: It took longer to arrive than the caller waits.
    """
    return replace(request, timeout_ms=timeout.remaining_ms(request.timeout_ms))
