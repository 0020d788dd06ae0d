"""What can be set, for a client and for one call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from plumbline_client.retry import RetryPolicy


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
