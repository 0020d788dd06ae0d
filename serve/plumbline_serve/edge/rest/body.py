"""A request's body off the wire: within the limit, of a known media type, as a document and its parts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from plumbline_models.core.errors import MalformedRequestError, UnsupportedMediaTypeError
from plumbline_serve.edge.rest.json_document import read_json
from plumbline_serve.edge.rest.multipart import FormReader, boundary_of
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
    media_type = _media_type(request)
    share.may_hold_pixels = media_type == FORM
    if media_type == JSON:
        return Body(await read_json(await read_bytes(request, limits, share), limits))
    with FormReader(boundary_of(request.headers["content-type"]), max_parts=limits.max_items + 1) as form:
        async for chunk in _chunks(request, share):
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
    content = bytearray()  # one large piece, which goes back to the system once freed; thousands of small ones do not
    async for chunk in _chunks(request, share):
        content += chunk
    return content


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
