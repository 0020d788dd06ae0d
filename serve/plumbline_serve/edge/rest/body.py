"""A request's body off the wire: within the limit, of a known media type, as a document and its parts."""

import asyncio
import codecs
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jiter
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError, UnsupportedMediaTypeError
from plumbline_serve.bytes_in_flight import Share
from plumbline_serve.edge.rest.multipart import FormReader, boundary_of
from plumbline_serve.settings import Limits

JSON = "application/json"
FORM = "multipart/form-data"
DOCUMENT_PART = "request"
_SLICE_BYTES = 2**20  # of a form, parsed before others get their turn
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_MAX_LENGTH_DIGITS = 20  # more than any 64-bit length has
_MAX_ITEM_FIELDS = 64  # more than any item has, brackets and names of images included
_PLACE = re.compile(r" at (line \d+ column \d+)$")
_HALF_ESCAPE = "hex escape"  # what the parser's sentence says of half a surrogate pair, and of nothing else
_HALF = re.compile(r"[\ud800-\udfff]")
_TEXT_FIELDS = frozenset({"text", "texts"})


@dataclass(frozen=True, slots=True)
class Body:
    """A document of plain values, and the bytes that its images name."""

    document: Any
    parts: Mapping[str, bytes] | None = None
    """None where the body is no form."""


async def read_body(request: Request, limits: Limits, share: Share) -> Body:
    """Read a request's body.

    Args:
        request: The caller's.
        limits: The service's.
        share: What the request holds of the bytes in flight; each chunk is taken on it.

    Raises:
        UnsupportedMediaTypeError: It is neither JSON nor a form; nothing was read.
        RequestTooLargeError: It has more bytes than allowed; no more than those were read.
        CapacityError: All requests together have.
        MalformedRequestError: It is not what its media type says.
    """
    media_type = _media_type(request)
    share.may_hold_pixels = media_type == FORM
    chunks = _chunks(request, share)
    if media_type == JSON:
        content = (
            bytearray()
        )  # one large piece, which goes back to the system once freed; thousands of small ones do not
        async for chunk in chunks:
            content += chunk
        return Body(read_json(bytes(content), limits))
    with FormReader(boundary_of(request.headers["content-type"]), max_parts=limits.max_items + 1) as form:
        async for chunk in chunks:
            for start in range(0, len(chunk), _SLICE_BYTES):
                form.write(chunk[start : start + _SLICE_BYTES])
                if len(chunk) > _SLICE_BYTES:
                    await asyncio.sleep(0)
        parts = form.close()
    document = parts.pop(DOCUMENT_PART, None)
    if document is None:
        raise MalformedRequestError(f"The form has no part {DOCUMENT_PART!r}, which holds the JSON.")
    return Body(read_json(document, limits), parts)


def _media_type(request: Request) -> str:
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    known = media_type.decode("latin-1")
    if known not in (JSON, FORM):
        raise UnsupportedMediaTypeError(f"The content type must be {JSON} or {FORM}.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaTypeError("The body must not be compressed; images are already.")
    if known == JSON and parameters.get(b"charset", b"utf-8").strip().lower() not in _CHARSETS:
        raise UnsupportedMediaTypeError("JSON must be in UTF-8.")
    return known


async def _chunks(request: Request, share: Share) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        share.check_size(int(declared[:_MAX_LENGTH_DIGITS]))
    async for chunk in request.stream():
        share.take(len(chunk))
        yield chunk


def read_json(body: bytes, limits: Limits) -> Any:
    """Parse a body: strict JSON in UTF-8, no member twice, no NaN, nested at most 200 deep.

    A byte order mark is skipped. A text may hold half of a surrogate pair (half an emoji, written as an escape), which
    concerns its item alone. Blocks for about a millisecond per megabyte.

    Args:
        body: The bytes.
        limits: The service's.

    Raises:
        MalformedRequestError: It is not such JSON.
        RequestTooLargeError: It has more values than any request within the limits, so that parsing would only eat
            memory: each comma stands between two values or in a text, and both are limited.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body:
        raise MalformedRequestError("The request has no body.")
    most = limits.max_items * (limits.max_text_chars + _MAX_ITEM_FIELDS)
    if len(body) > most and body.count(b",") > most:
        raise RequestTooLargeError("The request has more JSON values than the limits allow items.", limit=most)
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        if _HALF_ESCAPE in str(error):
            return _read_halves(body)
        raise MalformedRequestError(_sentence(str(error))) from error


def _read_halves(body: bytes) -> Any:
    """The same for a body with halves of surrogate pairs, which the faster parser does not know."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError("The request is not valid JSON in UTF-8.") from error


def _object(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) < len(members):
        raise MalformedRequestError("The request's JSON has a member twice.")
    for name, value in members:
        values = [name] if name in _TEXT_FIELDS else [name, *(value if isinstance(value, list) else [value])]
        if any(isinstance(each, str) and _HALF.search(each) for each in values):
            raise MalformedRequestError("The request's JSON holds half of a surrogate pair outside of a text.")
    return document


def _refuse_constant(name: str) -> None:
    raise MalformedRequestError(f"The request's JSON holds {name}, which is no number.")


def _sentence(reason: str) -> str:
    """Say where the JSON is wrong, without the piece of it that the parser's own sentence may hold."""
    place = _PLACE.search(reason)
    where = f" at {place[1]}" if place else ""
    if reason.startswith("Detected duplicate key"):
        return f"The request's JSON has a member twice{where}."
    return f"The request is not valid JSON in UTF-8{where}."
