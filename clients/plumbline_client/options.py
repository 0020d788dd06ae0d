"""What can be set, for a client and for one call."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from plumbline_client.errors import UsageError
from plumbline_client.retry import RetryPolicy

_VISIBLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class ClientOptions(TypedDict, total=False):
    """What every client can be told beside its address."""

    api_key: str | None
    """Sent as `Authorization: Bearer KEY`."""
    timeout_ms: float | None
    """Time of a call, all its attempts together; None: no limit. Default 30 000."""
    retry: RetryPolicy
    headers: Mapping[str, str]
    """Sent with every call: HTTP headers, or gRPC metadata (then with lower-case names)."""


class CallOptions(TypedDict, total=False):
    """What every call can be told."""

    timeout_ms: float | None
    """Time of this call, in place of the client's."""
    request_id: str
    """Names the call in the service's logs; default: a random one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A client's options with their defaults; its `repr` holds nothing secret."""

    api_key: str | None = field(default=None, repr=False)
    timeout_ms: float | None = 30_000.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # Here and without the value: what the transports say of a header that they refuse shows all of it.
        if self.api_key is not None:
            check_header("api_key", self.api_key)
        for name, value in self.headers.items():
            check_header(f"The header {name}", value)


def check_header(name: str, value: str) -> None:
    """Check that a value can be sent as HTTP header and as gRPC metadata.

    Args:
        name: What the error calls it.
        value: At least one printable ASCII character, no space around it.

    Raises:
        UsageError: It cannot; the sentence does not show the value.
    """
    if _VISIBLE.fullmatch(value) is None:
        raise UsageError(f"{name} must be printable ASCII, without spaces or line ends around it.")
