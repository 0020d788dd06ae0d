"""What can be set, for a client and for one call."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from plumbline_client.errors import UsageError
from plumbline_client.items import Combinations
from plumbline_client.retry import RetryPolicy
from plumbline_client.tls import Tls

MAX_TIMEOUT_MS = 86_400_000_000.0  # 1000 days; more, infinity too, is no limit: transports count in fewer bits
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # what RFC 9110 calls a token
_VISIBLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

Priority: TypeAlias = Literal["interactive", "normal", "batch"]
"""How urgent a call is among those that wait; the service refuses `batch` first."""


class ClientOptions(TypedDict, total=False):
    """What every client can be told beside its address."""

    api_key: str | None
    """Sent as `Authorization: Bearer KEY`."""
    timeout_ms: float | None
    """Time of a call, all its attempts together; None: no limit. Default 30 000."""
    priority: Priority
    """Of every call. Default `normal`."""
    deterministic: bool
    """Whether numbers are the same, bit for bit, whatever else the service computes; of every call. Default False."""
    retry: RetryPolicy
    headers: Mapping[str, str]
    """Sent with every call: HTTP headers, or gRPC metadata (then with lower-case names)."""
    tls: Tls | None
    """Certificates, where those of public authorities will not do."""


class CallOptions(TypedDict, total=False):
    """What every call can be told."""

    timeout_ms: float | None
    """Time of this call, in place of the client's."""
    priority: Priority
    """Of this call, in place of the client's."""
    deterministic: bool
    """Of this call, in place of the client's."""
    request_id: str
    """Names the call in the service's logs; default: a random one."""


class SelectOptions(CallOptions, total=False):
    """What a selection can be told beside that."""

    scorer: str | None
    """Or a combination; None: the only combination, else the first loaded scorer of an image and a text."""
    correlation: float | None
    """Of the score with what people want, within prompts; None: nothing is certified."""
    correlation_interval: tuple[float, float] | None
    """Its lower and upper end; the lower one is used."""
    temperature: float | None
    """An image is drawn by the softmax of score over temperature; None: the best is chosen."""
    seed: int | None
    """Of the draw; None: any."""


class CalibrateOptions(CallOptions, total=False):
    """What a calibration can be told beside that."""

    groups: Sequence[str] | None
    """The group of each score, such as the class of its prompt."""
    confidence: float | None
    """The promise holds for such a share of calibrations; None: on average over them."""
    combine: Combinations | None
    """One, by its name, in place of a scorer."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A client's options with their defaults; its `repr` holds nothing secret."""

    api_key: str | None = field(default=None, repr=False)
    timeout_ms: float | None = 30_000.0
    priority: Priority = "normal"
    deterministic: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Tls | None = None

    def __post_init__(self) -> None:
        # Here and without the value: what the transports say of a header that they refuse shows all of it.
        if self.api_key is not None:
            check_header("api_key", self.api_key)
        for name, value in self.headers.items():
            if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
                raise UsageError(f"{name!r} cannot be the name of a header.")
            check_header(f"The header {name}", value)
        check_timeout_ms(self.timeout_ms)
        check_priority(self.priority)
        check_deterministic(self.deterministic)


def check_header(name: str, value: str) -> None:
    """Check that a value can be sent as HTTP header and as gRPC metadata.

    Args:
        name: What the error calls it.
        value: At least one printable ASCII character, no space around it.

    Raises:
        UsageError: It cannot; the sentence does not show the value.
    """
    if not isinstance(value, str) or _VISIBLE.fullmatch(value) is None:
        raise UsageError(f"{name} must be printable ASCII, without spaces or line ends around it.")


def check_timeout_ms(timeout_ms: float | None) -> float | None:
    """Read a time limit; None: there is none.

    Raises:
        UsageError: It is no time that a call could take.
    """
    if timeout_ms is None:
        return None
    if not isinstance(timeout_ms, Real) or not timeout_ms > 0:
        raise UsageError(f"timeout_ms must be a number greater than 0, or None for no limit; this is {timeout_ms!r}.")
    return float(timeout_ms) if timeout_ms <= MAX_TIMEOUT_MS else None


def check_priority(priority: Priority) -> Priority:
    """Read a priority.

    Raises:
        UsageError: There is none of that name.
    """
    if priority not in get_args(Priority):
        raise UsageError(f"A priority is one of {', '.join(get_args(Priority))}; this is {priority!r}.")
    return priority


def check_deterministic(deterministic: bool) -> bool:  # noqa: FBT001 - the value that is checked
    """Read whether numbers may depend on what else the service computes.

    Raises:
        UsageError: It is neither True nor False.
    """
    if not isinstance(deterministic, bool):
        raise UsageError(f"deterministic is True or False; this is {deterministic!r}.")
    return deterministic


def split_options(options: Mapping[str, Any], kind: type[Any]) -> tuple[dict[str, Any], CallOptions]:
    """Part the options of a method into its own, and those that every call has; what nobody knows is every call's.

    Args:
        options: As the caller gave them.
        kind: The method's `CallOptions`.
    """
    own = {*kind.__annotations__} - {*CallOptions.__annotations__}
    chosen = {name: value for name, value in options.items() if name in own}
    call: Any = {name: value for name, value in options.items() if name not in own}
    return chosen, call


def check_call_options(options: CallOptions) -> None:
    """Refuse options that a call does not have: ignored, they would be missed.

    Raises:
        UsageError: There is one.
    """
    known = CallOptions.__annotations__
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise UsageError(f"A call has no option {', '.join(unknown)}; it has {', '.join(known)}.")
