"""One line of the log for each request, under its id; both edges write it, and tell the metrics by the same facts.

Of a request it says where it went, how it ended, how long that took and how many items it had; of a refusal why, by its
code, by the fields that are at fault and by numbers. Nothing that a caller wrote is in it but the request's id.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from plumbline_models.core.errors import CapacityError, OverloadedError, PlumblineError
from plumbline_serve.edge.observe import EdgeObserver, Wire
from plumbline_serve.edge.problems import shown_facts
from plumbline_serve.edge.schemas import requests as request_schemas
from plumbline_serve.logs import facts

log = logging.getLogger(__name__)
QUIET = frozenset(
    {"/livez", "/readyz", "/metrics", "/health"}
    | {f"grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")}
    | {"/v1/health/ready", "/v2/health/live", "/v2/health/ready"}
    | {"inference.GRPCInferenceService/ServerLive", "inference.GRPCInferenceService/ServerReady"}
)
"""What probes and scrapes ask, every few seconds: at DEBUG where it is answered."""
MAX_REFUSALS_PER_S = 20
"""Lines of requests that there was no room for: these come in floods."""
_MAX_FIELDS = 4


@dataclass(slots=True)
class Answered:
    """One request, as far as it went."""

    request_id: str
    route: str
    """A route of the contract or the name of an RPC; `unmatched` for any other path."""
    protocol: Wire
    code: str
    """As `EdgeObserver.request` has it."""
    seconds: float
    num_items: int | None = None
    """None: it was not read so far."""
    caller: str = ""
    """The name of the caller's key."""
    refusal: PlumblineError | None = None
    """Why it failed as a whole."""


class RequestLog:
    """Writes a line for each request, and has it counted.

    Args:
        observer: Counts.
        clock: Seconds that only grow.
    """

    def __init__(self, observer: EdgeObserver, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._clock = clock
        self._second = 0
        self._num_written = 0
        self._num_left_out = 0

    def answered(self, request: Answered) -> None:
        """A request was answered, or its caller has gone."""
        self._observer.request(request.route, request.protocol, request.code, request.seconds)
        level = self._level(request.refusal)
        if request.refusal is None and request.route in QUIET:
            level = logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "request refused" if request.refusal else "request", extra=_facts(request))

    def batch_refused(self, request_id: str, refusal: PlumblineError) -> None:
        """One batch of a stream was refused; the stream goes on.

        Args:
            request_id: Of the stream.
            refusal: Why.
        """
        log.log(self._level(refusal), "batch refused", extra=facts(request_id=request_id, **_why(refusal)))

    def _level(self, refusal: PlumblineError | None) -> int:
        return logging.INFO if not isinstance(refusal, CapacityError) or self._has_room() else logging.DEBUG

    def _has_room(self) -> bool:
        """Whether a refusal for lack of room gets its line; how many did not is said with the next that does."""
        second = int(self._clock())
        if second != self._second:
            if self._num_left_out:
                log.info("refusals left out of the log", extra=facts(count=self._num_left_out))
            self._second, self._num_written, self._num_left_out = second, 0, 0
        if self._num_written < MAX_REFUSALS_PER_S:
            self._num_written += 1
            return True
        self._num_left_out += 1
        return False


def _facts(request: Answered) -> dict[str, Any]:
    return facts(
        request_id=request.request_id,
        route=request.route,
        protocol=request.protocol,
        code=request.code,
        ms=round(request.seconds * 1000, 1),
        items=request.num_items,
        caller=request.caller or None,
        **({} if request.refusal is None else _why(request.refusal)),
    )


def _why(refusal: PlumblineError) -> dict[str, Any]:
    """Why a request was refused, in nothing but our own words and numbers."""
    found: dict[str, Any] = {"refused": refusal.code}
    errors = refusal.facts.get("errors")
    if isinstance(errors, list | tuple):
        pointers = [str(each.get("pointer", "")) for each in errors if isinstance(each, Mapping)]
        found["fields"] = [_known(pointer) for pointer in pointers[:_MAX_FIELDS]]
    shown = {**refusal.facts, **shown_facts(refusal)}
    numbers = {name: value for name, value in shown.items() if isinstance(value, int | float)}
    if isinstance(refusal, OverloadedError) and "reason" in shown:
        numbers["reason"] = shown["reason"]
    return found | {name: value for name, value in numbers.items() if name not in found}


def _known(pointer: str) -> str:
    """A JSON pointer without the names that the caller chose, such as those of its images."""
    segments = pointer.split("/")[1:]
    return "".join(f"/{each}" if each.isdigit() or each in _field_names() else "/*" for each in segments)


@cache
def _field_names() -> frozenset[str]:
    """Of every message that a request is made of."""
    models = [each for each in vars(request_schemas).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    return frozenset(name for model in models for name in model.model_fields)
