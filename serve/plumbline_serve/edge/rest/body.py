"""A request's body off the wire: within the limit, of a known media type, as a document and its parts."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from plumbline_models.core.errors import MalformedRequestError, UnsupportedMediaTypeError
from plumbline_serve.edge.rest.json_document import read_json
from plumbline_serve.edge.rest.multipart import FormReader, boundary_of, options_of
from plumbline_serve.memory.bytes_in_flight import Share
from plumbline_serve.settings import Limits

JSON = "application/json"
FORM = "multipart/form-data"
DOCUMENT_PART = "request"
_SLICE_BYTES = 2**20  # of a form, parsed before others get their turn
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_MAX_LENGTH_DIGITS = 20  # more than any 64-bit length has


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
    content_type = request.headers.get("content-type", "").encode("latin-1")
    media_type = _media_type(request, content_type)
    share.may_hold_pixels = media_type == FORM
    if media_type == JSON:
        return Body(await read_json(await read_bytes(request, limits, share), limits))
    with FormReader(boundary_of(content_type), max_parts=limits.max_items + 1) as form:
        _check_length(request, share)
        is_over = False
        while not is_over:
            chunk, is_over = await _next_chunk(request, share)
            for start in range(0, len(chunk), _SLICE_BYTES):
                form.write(chunk[start : start + _SLICE_BYTES])
                if len(chunk) > _SLICE_BYTES:
                    await asyncio.sleep(0)
        parts = form.close()
    document = parts.pop(DOCUMENT_PART, None)
    if document is None:
        raise MalformedRequestError(f"The form has no part {DOCUMENT_PART!r}, which holds the JSON.")
    return Body(await read_json(document, limits), parts)


async def read_bytes(request: Request, limits: Limits, share: Share) -> bytearray:
    """Read a request's body as it is, whatever its media type; raises as `read_body` does of its size.

    Args:
        request: The caller's.
        limits: The service's.
        share: As there.
    """
    del limits  # the share knows them
    _check_length(request, share)
    content = bytearray()  # one large piece, which goes back to the system once freed; thousands of small ones do not
    is_over = False
    while not is_over:
        chunk, is_over = await _next_chunk(request, share)
        content += chunk
    return content


def _media_type(request: Request, content_type: bytes) -> str:
    media_type, parameters = options_of(content_type)
    known = media_type.decode("latin-1")
    if known not in (JSON, FORM):
        raise UnsupportedMediaTypeError(f"The content type must be {JSON} or {FORM}.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaTypeError("The body must not be compressed; images are already.")
    if known == JSON and parameters.get(b"charset", b"utf-8").strip().lower() not in _CHARSETS:
        raise UnsupportedMediaTypeError("JSON must be in UTF-8.")
    return known


def _check_length(request: Request, share: Share) -> None:
    """Refuse a body that says of itself that it is too large, before any of it is read."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        share.check_size(int(declared[:_MAX_LENGTH_DIGITS]))


async def _next_chunk(request: Request, share: Share) -> tuple[bytes, bool]:
    """The next bytes of a body, which the share holds, and whether they are the last.

    Not starlette's `stream`: two generators per request cost the event loop more than what they do.
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    chunk = message.get("body", b"")
    share.take(len(chunk))
    return chunk, not message.get("more_body", False)
