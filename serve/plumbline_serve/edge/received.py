"""Since when a request waits, and until when: headers of the caller, and of HAProxy, which had it first.

HAProxy sets its own anew, so what a caller sends under their names never arrives. Where there is no such HAProxy
in front, a caller can say it is older or younger than it is, within `MAX_WAITED_S`, and moves its own deadline alone.
"""

import re
import time

RECEIVED = "x-plumbline-received-ms"
"""When HAProxy had the request's head: milliseconds since 1970 on this machine's clock."""
TIMEOUT = "x-request-timeout-seconds"
"""How long a caller of REST waits."""
OWN_TIMEOUT = "x-plumbline-timeout-seconds"
"""The same once Ray must no longer see it, which would answer in its own words."""
GRPC_TIMEOUT = "x-plumbline-grpc-timeout"
"""What gRPC's own `grpc-timeout` says, which Ray does not hand on."""
OWN_CONNECTION = "x-plumbline-own-connection"
"""Of a gRPC stream that HAProxy sends over a connection of its own."""
MAX_WAITED_S = 60.0
"""More than a request can wait before a gateway sees it; beyond, a clock was set."""

_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_MS = {"H": 3_600_000.0, "M": 60_000.0, "S": 1000.0, "m": 1.0, "u": 1e-3, "n": 1e-6}


def waited_s(received: str | None) -> float:
    """How long ago HAProxy had a request, in seconds.

    Args:
        received: The value of the header; None: there is none.

    Returns:
        0 where it does not say, or says what cannot be.
    """
    if received is None or _MILLISECONDS.fullmatch(received) is None:
        return 0.0
    waited = time.time() - int(received) / 1000
    return waited if 0.0 <= waited <= MAX_WAITED_S else 0.0


def timeout_ms(timeout: str | None) -> float | None:
    """A timeout as gRPC writes it, in milliseconds.

    Args:
        timeout: The value of the header; None: there is none.

    Returns:
        None where there is none, or what is written is no timeout.
    """
    parsed = _TIMEOUT.fullmatch(timeout or "")
    return None if parsed is None else int(parsed[1]) * _UNIT_MS[parsed[2]]
