"""Every error a client raises.

    PlumblineClientError
    ├── UsageError                 wrong arguments, or a closed client; nothing was sent (also a ValueError)
    ├── ProblemError               the service answered with a problem
    │   ├── InvalidRequestError    400, 404, 405, 413, 415, 422
    │   ├── AccessError
    │   │   ├── UnauthenticatedError  401
    │   │   └── ForbiddenError     403
    │   ├── CapacityError          429, 503: later it may work; retried
    │   │   └── RateLimitedError   429, where the key has used what it may
    │   └── DeadlineExceededError  504 (also a DeadlineError)
    ├── TransportError             no reply: not reached, or the connection broke
    │   ├── ConnectError           not reached, or the connection broke before the reply; retried
    │   └── UnexpectedReplyError   a reply that is not of this service, or no TLS with it
    └── DeadlineError              the call's time is over

`except DeadlineError` catches a passed deadline, no matter who noticed it first.
"""

from plumbline_client.problems import Problem


class PlumblineClientError(Exception):
    """A call failed.

    Args:
        detail: One sentence.
        request_id: The call's name in the service's logs, where it has one.
    """

    def __init__(self, detail: str, *, request_id: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.request_id = request_id

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return False


class UsageError(PlumblineClientError, ValueError):
    """The arguments are wrong; nothing was sent."""


class ProblemError(PlumblineClientError):
    """The service answered with a problem.

    Args:
        problem: What it said.
    """

    def __init__(self, problem: Problem) -> None:
        detail = problem.detail or problem.title or f"The service answered {problem.status}."
        super().__init__(detail, request_id=problem.request_id)
        self.problem = problem

    @property
    def code(self) -> str:
        """The problem's stable code."""
        return self.problem.code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problem,), self.__dict__


class InvalidRequestError(ProblemError):
    """The request is wrong; sent again, it stays wrong."""


class AccessError(ProblemError):
    """No API key, an unknown one, or one that may not do this."""


class UnauthenticatedError(AccessError):
    """No API key, or an unknown or expired one."""


class ForbiddenError(AccessError):
    """The API key is not for this."""


class CapacityError(ProblemError):
    """The service is busy, not ready, or about to stop."""

    @property
    def retry_after_ms(self) -> float | None:
        """When a retry is likely to be served, from the reply on, as the service says."""
        return self.problem.retry_after_ms

    @property
    def is_retryable(self) -> bool:
        """Always: another moment or another replica may answer."""
        return True


class RateLimitedError(CapacityError):
    """The API key has used its items, or has as many calls under way as it may."""


class DeadlineError(PlumblineClientError):
    """The call's time is over."""


class DeadlineExceededError(ProblemError, DeadlineError):
    """The service noticed that the call's time is over."""


class TransportError(PlumblineClientError):
    """There is no reply."""


class ConnectError(TransportError):
    """The service was not reached, or the connection broke before the reply."""

    @property
    def is_retryable(self) -> bool:
        """Always: a call leaves nothing behind in the service, so one that was answered to nobody may come again."""
        return True


class UnexpectedReplyError(TransportError):
    """The reply is not one of this service; the address may be another server's."""


RATE_LIMITED = "rate_limited"
_BY_STATUS: dict[int, type[ProblemError]] = {
    **dict.fromkeys((400, 404, 405, 413, 415, 422), InvalidRequestError),
    401: UnauthenticatedError,
    403: ForbiddenError,
    **dict.fromkeys((429, 503), CapacityError),
    504: DeadlineExceededError,
}


def problem_error(problem: Problem) -> ProblemError:
    """Make the error class that fits the problem's status, and its code where that says more."""
    if problem.code == RATE_LIMITED:
        return RateLimitedError(problem)
    return _BY_STATUS.get(problem.status, ProblemError)(problem)
