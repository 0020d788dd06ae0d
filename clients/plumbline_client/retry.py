"""When a failed call is tried again, and when it is better left alone."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from plumbline_client.errors import UsageError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon; full jitter, so that callers that failed together do not return together."""

    max_attempts: int = 4
    """Attempts a call, the first one included; 1: never again."""
    base_delay_s: float = 0.1
    """Longest wait before the second attempt; doubles with each further one."""
    max_delay_s: float = 5.0
    """Longest wait that the client chooses itself; what the service asks for may be longer."""
    budget: int = 10
    """Retries that a client may have ahead of its successes: when most calls fail, retrying makes it worse."""
    refill: float = 0.1
    """What each success gives back to the budget."""

    def __post_init__(self) -> None:
        waits = (self.base_delay_s, self.max_delay_s, self.budget, self.refill)
        if self.max_attempts < 1 or not all(number >= 0 for number in waits):
            raise UsageError("A retry policy has at least one attempt, and no number below 0.")

    def delay_s(self, num_failed: int, retry_after_ms: float, jitter: Callable[[], float]) -> float:
        """Seconds to wait.

        Args:
            num_failed: Attempts so far, from 1.
            retry_after_ms: What the service asks for (Retry-After), or 0; never undercut.
            jitter: Gives a number in [0, 1).
        """
        longest = min(self.max_delay_s, self.base_delay_s * 2.0 ** (num_failed - 1))
        return retry_after_ms / 1000.0 + longest * jitter()


class RetryBudget:
    """Retries that are left, over all calls of a client; thread-safe."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._left = float(policy.budget)
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True

    def earn(self) -> None:
        """Book a success."""
        with self._lock:
            self._left = min(float(self._policy.budget), self._left + self._policy.refill)
