"""Errors as replies: RFC 9457 problems, which `grpc.status` makes statuses of. Nothing else turns errors into replies.

Only an error's own sentence is shown, and only where the caller can act on it: what failed inside the service is
answered with one fixed sentence, and said in full in the log beside the request id.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from plumbline_models.core.errors import (
    AccessError,
    CapacityError,
    DeadlineExceededError,
    MethodNotAllowedError,
    NotReadyError,
    OverloadedError,
    PlumblineError,
    RequestError,
    UnauthenticatedError,
)
from plumbline_serve.edge.observe import EdgeObserver
from plumbline_serve.logs import described, facts
from plumbline_serve.messages.sets import AnyReply, errors_of
from plumbline_serve.scheduling.concurrency import release

log = logging.getLogger(__name__)

Problem: TypeAlias = dict[str, Any]
"""A JSON-ready problem, as RFC 9457 has it."""

TYPE_BASE = "https://plumbline.example/problems/"  # an identifier: nothing needs to be there
PROBLEM_JSON = "application/problem+json"
INTERNAL_DETAIL = "Something went wrong in the service; its log holds more under the request id."
INTERNAL_STATUS = 500
MAX_CAUSES = 8
"""Lines in the log for one answer; items mostly fail for one cause."""
MAX_NAMED_ITEMS = 4
"""In one such line."""

_SHOWN_FACTS: Mapping[type[PlumblineError], Sequence[str]] = {
    OverloadedError: ("reason", "estimated_wait_ms"),
    NotReadyError: ("groups",),
}


def refuse(error: Exception, request_id: str, observer: EdgeObserver) -> PlumblineError:
    """Log and count why a whole request fails, and let go of the frames that the error passed.

    Args:
        error: Why it fails.
        request_id: Names it in the log.
        observer: Counts.

    Returns:
        The error that the caller may see; what is not Plumbline's own becomes an internal one.
    """
    report(error, request_id)
    release(error)
    visible = error if isinstance(error, PlumblineError) else PlumblineError(INTERNAL_DETAIL)
    if isinstance(visible, RequestError | AccessError | CapacityError):
        observer.rejection(visible.code)
    if isinstance(visible, DeadlineExceededError) and visible.facts.get("stage") == "receive":
        observer.expired("receive")  # later stages count for themselves
    return visible


def problem_type(error: PlumblineError | type[PlumblineError]) -> str:
    """The stable identifier of an error's class."""
    return TYPE_BASE + error.code.replace("_", "-")


def problem(error: PlumblineError, request_id: str | None = None) -> Problem:
    """The problem document of an error.

    Args:
        error: What failed.
        request_id: Of the request that failed as a whole; None: one of its items did.
    """
    document: Problem = {
        "type": problem_type(error),
        "title": error.title,
        "status": error.status,
        "detail": detail_of(error),
        "code": error.code,
    }
    if faults := faults_of(error):
        document["errors"] = faults
    if isinstance(error, CapacityError):
        document["retry_after_ms"] = math.ceil(error.retry_after_s * 1000)
    document |= shown_facts(error)
    if request_id is not None:
        document["request_id"] = request_id
    return document


def http_headers(error: PlumblineError) -> dict[str, str]:
    """The headers that go with a problem of a whole request."""
    headers = {"content-type": PROBLEM_JSON}
    if isinstance(error, CapacityError):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, UnauthenticatedError):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowedError):
        headers["allow"] = str(error.facts.get("allow", ""))
    return headers


def report(error: Exception, request_id: str) -> None:
    """Log why a whole request failed inside the service, with the trace; a refusal stands in the request's own line.

    Args:
        error: Why it failed.
        request_id: Names it in the log.
    """
    if not isinstance(error, PlumblineError) or error.status == INTERNAL_STATUS:
        log.error("request failed", exc_info=error, extra=facts(request_id=request_id))


def report_items(reply: AnyReply, request_id: str) -> None:
    """Log why parts of a reply failed inside the service: a line for each cause, with the items by index.

    Args:
        reply: What the service replied.
        request_id: Names the request in the log.
    """
    places: dict[str, list[str]] = {}
    for place, error in errors_of(reply):
        if error.status == INTERNAL_STATUS:
            places.setdefault(_cause(error), []).append(place)
    for cause, failed in list(places.items())[:MAX_CAUSES]:
        named = facts(request_id=request_id, failed=failed[:MAX_NAMED_ITEMS], count=len(failed), cause=cause)
        log.error("request failed in part", extra=named)
    if len(places) > MAX_CAUSES:
        more = facts(request_id=request_id, count=len(places) - MAX_CAUSES)
        log.error("request failed in part for further causes", extra=more)


def _cause(error: PlumblineError) -> str:
    """Why something failed inside the service, and what from."""
    return described(error) + (f", from {described(error.__cause__)}" if error.__cause__ else "")


def detail_of(error: PlumblineError) -> str:
    """The sentence that the caller sees."""
    return INTERNAL_DETAIL if error.status == INTERNAL_STATUS else error.detail


def shown_facts(error: PlumblineError) -> Problem:
    """What a caller may know of why there is no capacity."""
    names = next((names for kind, names in _SHOWN_FACTS.items() if isinstance(error, kind)), ())
    return {name: error.facts[name] for name in names if name in error.facts}


def faults_of(error: PlumblineError) -> list[dict[str, str]]:
    """The faulty fields that the error names: JSON pointer and reason."""
    given = error.facts.get("errors")
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        return []
    return [
        {"pointer": str(fault["pointer"]), "detail": str(fault["detail"])}
        for fault in given
        if isinstance(fault, Mapping) and {"pointer", "detail"} <= fault.keys()
    ]
