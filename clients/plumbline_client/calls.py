"""One call: its name, its time, its attempts. The same for every transport, sync or async; does no waiting itself."""

import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

from plumbline_client.documents import Document, claims_document
from plumbline_client.errors import DeadlineError, PlumblineClientError, ProblemError, UsageError
from plumbline_client.options import (
    CallOptions,
    Priority,
    Profile,
    check_call_options,
    check_deterministic,
    check_header,
    check_priority,
    check_timeout_ms,
)
from plumbline_client.requests import Request
from plumbline_client.retry import RetryBudget
from plumbline_wire import REQUEST_ID_KEY


@dataclass(slots=True)
class Bounds:
    """What one request may hold, by the service's defaults; lowered where a service turns out to take less."""

    max_items: int = 256
    max_bytes: int = 63 * 2**20
    """1 MiB below the default limit, for what is only estimated."""


class Call:
    """One call under way."""

    def __init__(self, core: "Core", options: CallOptions) -> None:
        check_call_options(options)
        profile = core.profile
        timeout_ms = check_timeout_ms(options.get("timeout_ms", profile.timeout_ms))
        self.address = core.address
        self.request_id = options.get("request_id") or uuid.uuid4().hex
        check_header("request_id", self.request_id)
        self._profile = profile
        self.bounds = core.bounds
        self._budget = core.budget
        self._timeout_ms = timeout_ms
        self._priority: Priority = check_priority(options.get("priority", profile.priority))
        self._deterministic = check_deterministic(options.get("deterministic", profile.deterministic))
        self._ends_at = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000.0
        self._num_failed = 0

    @property
    def headers(self) -> dict[str, str]:
        """Headers or metadata of each attempt, names in lower case."""
        key = self._profile.api_key
        access = {} if key is None else {"authorization": f"Bearer {key}"}
        extra = {name.lower(): value for name, value in self._profile.headers.items()}
        return extra | access | {REQUEST_ID_KEY: self.request_id}

    def remaining_s(self) -> float | None:
        """Seconds that the call has left, more than 0; None: no limit.

        Raises:
            DeadlineError: None are left.
        """
        if self._ends_at is None:
            return None
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise self.overdue()
        return left

    def overdue(self) -> DeadlineError:
        """Make the error of a call whose time is over."""
        limit = "" if self._timeout_ms is None else f" of {self._timeout_ms:g}"
        return DeadlineError(
            f"The call to {self.address} took longer than its timeout_ms{limit}.", request_id=self.request_id
        )

    def document(self, request: Request[Any]) -> Document:
        """Make an attempt's JSON body, with the time that is left to answer it."""
        left = self.remaining_s()
        timeout_ms = None if left is None else left * 1000.0
        return request.document() | claims_document(timeout_ms, self._priority, deterministic=self._deterministic)

    def succeeded(self) -> None:
        """Book that an attempt was answered; what follows has its own attempts."""
        self._num_failed = 0
        self._budget.earn()

    def wait_after(self, error: PlumblineClientError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            PlumblineClientError: The same error, where there is to be no other attempt.
        """
        error.request_id = error.request_id or self.request_id
        self._num_failed += 1
        if not error.is_retryable or self._num_failed >= self._profile.retry.max_attempts:
            raise error
        retry_after_ms = error.problem.retry_after_ms if isinstance(error, ProblemError) else None
        wait_s = self._profile.retry.delay_s(self._num_failed, retry_after_ms or 0.0, random.random)
        if self._ends_at is not None and time.monotonic() + wait_s >= self._ends_at:
            raise error
        if not self._budget.spend():
            raise error
        return wait_s


class Core:
    """What the calls of one client share.

    Args:
        profile: The client's options.
        address: What errors call the service by.
        bounds: What one request may hold.
    """

    def __init__(self, profile: Profile, address: str = "the service", bounds: Bounds | None = None) -> None:
        self.profile = profile
        self.address = address
        self.bounds = bounds or Bounds()
        self.budget = RetryBudget(profile.retry)
        self._is_closed = False

    def close(self) -> None:
        """Let no further call begin."""
        self._is_closed = True

    def begin(self, options: CallOptions) -> Call:
        """Start a call's clock.

        Raises:
            UsageError: An option is wrong, or the client is closed.
        """
        if self._is_closed:
            raise UsageError("The client is closed.")
        return Call(self, options)
