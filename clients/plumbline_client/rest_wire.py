"""Requests written as HTTP requests, and replies read from HTTP replies; pure functions of bytes."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from plumbline_client.addresses import shown
from plumbline_client.calls import Call
from plumbline_client.errors import (
    PlumblineClientError,
    UnexpectedReplyError,
    UsageError,
    problem_error,
)
from plumbline_client.images import RGB, Image
from plumbline_client.problems import Problem, problem_of
from plumbline_client.requests import Request
from plumbline_wire import REQUEST_ID_KEY

T = TypeVar("T", bound=BaseModel)
Parts = dict[int, tuple[str, bytes]]
"""Name and bytes of each part, by the image's identity."""


@dataclass(frozen=True, slots=True, repr=False)
class HttpRequest:
    """One HTTP request; has no `repr`, its headers hold the key."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One HTTP reply."""

    status: int
    headers: Mapping[str, str]
    """With names that compare without case."""
    body: bytes


def encode(request: Request[Any], call: Call) -> HttpRequest:
    """Write a request: as multipart where it carries images, as JSON where it carries none.

    Args:
        request: What to send.
        call: Its name and time.

    Raises:
        UsageError: A number or a text cannot be written as JSON.
        DeadlineError: The call's time is over.
    """
    if request.method != "POST":
        return HttpRequest(request.method, request.path, call.headers, None)
    parts: Parts = {}
    try:
        content = json.dumps(with_parts(call.document(request), parts), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"The request cannot be written as JSON: {error}.") from error
    media_type = "application/json"
    if parts:
        media_type, content = _multipart(content, parts)
    return HttpRequest(request.method, request.path, call.headers | {"content-type": media_type}, content)


def decode(request: Request[T], reply: HttpReply, address: str) -> T:
    """Read a reply.

    Args:
        request: What was sent.
        reply: What came back.
        address: Where it came from, for errors.

    Raises:
        ProblemError: The service answered with a problem.
        UnexpectedReplyError: The reply is not one of this service.
    """
    if not 200 <= reply.status < 300:  # noqa: PLR2004 - the successes of HTTP
        raise _problem(reply, address + request.path)
    try:
        return request.read(reply.body)
    except ValidationError as error:
        raise UnexpectedReplyError(
            f"The answer of {address}{request.path} is not one of Plumbline.",
            request_id=reply.headers.get(REQUEST_ID_KEY),
        ) from error


def with_parts(value: Any, parts: Parts) -> Any:
    """Copy a document with sources in place of images.

    Args:
        value: The document.
        parts: Gets the bytes that the sources name.
    """
    if isinstance(value, dict):
        return {key: with_parts(entry, parts) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_parts(entry, parts) for entry in value]
    return _source(value, parts) if isinstance(value, Image) else value


def _source(image: Image, parts: Parts) -> dict[str, Any]:
    if image.content is None:
        return {"url": image.address}
    name, _ = parts.setdefault(id(image), (f"part-{len(parts)}", image.content))
    if image.shape is None:
        return {"part": name}
    raw = {"height": image.shape[0], "width": image.shape[1]}
    if image.channels != RGB:  # else left out: older services do not know it
        raw["channels"] = image.channels
    return {"part": name, "raw": raw}


def _multipart(content: bytes, parts: Parts) -> tuple[str, bytes]:
    boundary = secrets.token_hex(16)
    pieces = [_part_head(boundary, 'name="request"', "application/json"), content]
    for name, data in parts.values():
        head = _part_head(boundary, f'name="{name}"; filename="{name}"', "application/octet-stream")
        pieces += [b"\r\n", head, data]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def _part_head(boundary: str, disposition: str, media_type: str) -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {media_type}"
    return f"{head}\r\n\r\n".encode()


def _problem(reply: HttpReply, url: str) -> PlumblineClientError:
    place = reply.headers.get("location")
    if 300 <= reply.status < 400 and place is not None:  # noqa: PLR2004 - the redirections of HTTP
        sentence = f"{url} sends callers on to {shown(place)}, which a client does not follow; give it that address."
        return UnexpectedReplyError(sentence, request_id=reply.headers.get(REQUEST_ID_KEY))
    fallback = Problem(
        status=reply.status,
        detail=f"{url} answered {reply.status} without saying why.",
        code=f"http_{reply.status}",
        retry_after_ms=_retry_after_ms(reply.headers.get("retry-after")),
        request_id=reply.headers.get(REQUEST_ID_KEY),
    )
    try:
        document = json.loads(reply.body)
        said = document if isinstance(document, dict) else {}
        problem = problem_of(said | {"status": reply.status}, fallback)
    except ValueError:  # also pydantic's, where another server's JSON has other types
        problem = fallback
    return problem_error(problem)


def _retry_after_ms(value: str | None) -> float | None:
    """Milliseconds of a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    try:
        return 1000.0 * (float(value) if value.strip().isdecimal() else _seconds_until(value))
    except ValueError:
        return None


def _seconds_until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (aware - datetime.now(timezone.utc)).total_seconds())
