"""One request for an image and its reply: a status, a place to look instead, or the bytes of a file.

Sent are the headers below and no others: no cookies, no credentials, no referrer, whatever the caller, the environment
or an earlier host said. Nothing of a reply is believed but how it is framed: the file's own bytes say what it is.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import httpcore

from plumbline_models.core.errors import ImageTooLargeError, UrlUnreachableError
from plumbline_serve.fetching.connection import HeadBounded
from plumbline_serve.fetching.image_url import ImageUrl
from plumbline_serve.memory.bytes_in_flight import Share

REDIRECTS = frozenset({301, 302, 303, 307, 308})
FREE_PIECES = 1000
BYTES_PER_PIECE = 512
"""A body may come in `FREE_PIECES` pieces, however small; further ones must be this long on average: each costs the
event loop 50 microseconds."""
_OK = 200
_HEADERS = (
    (b"user-agent", b"plumbline"),
    (b"accept", b"image/*"),
    (b"accept-encoding", b"identity"),
    (b"connection", b"close"),
)
BROKEN = "The reply of the image's URL is broken, or breaks off."

Headers: TypeAlias = Mapping[bytes, Sequence[bytes]]
"""Values by name in lower case."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The host has the image elsewhere."""

    location: bytes


async def ask(
    url: ImageUrl, stream: HeadBounded, *, share: Share, max_bytes: int, idle_timeout_s: float
) -> bytes | Redirect:
    """Ask a host for an image.

    Args:
        url: Whose host the stream leads to.
        stream: Connected; to be used once.
        share: Holds the bytes that are returned.
        max_bytes: Of the image.
        idle_timeout_s: Between two pieces of the reply.

    Raises:
        UrlUnreachableError: There is no image, or the reply is not as HTTP has it.
        ImageTooLargeError: It has more bytes.
        httpcore.TimeoutException: The host said nothing for too long.
        httpcore.ProtocolError: The reply is not as HTTP has it.
        httpcore.NetworkError: The connection broke.
        RequestTooLargeError: As `Share.take`.
        CapacityError: As `Share.take`.
    """
    origin = httpcore.URL(scheme=b"https", host=url.host.encode(), port=url.port, target=url.target)
    headers = [(b"host", url.authority.encode()), *_HEADERS]
    timeouts = {"read": idle_timeout_s, "write": idle_timeout_s}
    request = httpcore.Request("GET", origin, headers=headers, extensions={"timeout": timeouts})
    connection = httpcore.AsyncHTTP11Connection(origin.origin, stream)
    response = await connection.handle_async_request(request)
    stream.is_head_read = True
    location = _check_head(response.status, _by_name(response.headers), max_bytes=max_bytes)
    if location is not None:
        return Redirect(location)
    return await _read(response.aiter_stream(), share, max_bytes=max_bytes)


def _check_head(status: int, headers: Headers, *, max_bytes: int) -> bytes | None:
    """See that a file follows; where it has moved to, if it has."""
    if status in REDIRECTS and len(headers.get(b"location", ())) == 1:
        return headers[b"location"][0]
    if status != _OK:
        raise UrlUnreachableError(f"The image's URL is answered with status {status}.", status=status)
    if set(headers.get(b"content-encoding", ())) - {b"identity", b""}:
        raise UrlUnreachableError("The image's URL is answered with a compressed body, which is not asked for.")
    lengths = headers.get(b"content-length", ())
    if not lengths and b"transfer-encoding" not in headers:
        raise UrlUnreachableError("The reply of the image's URL does not say where it ends.")
    if lengths and int(lengths[0]) > max_bytes:  # h11 has seen that it is a number
        raise _too_large(max_bytes)
    return None


async def _read(pieces: AsyncIterator[bytes], share: Share, *, max_bytes: int) -> bytes:
    """The whole body; its bytes are the share's, unless something is wrong with it."""
    body, num_pieces = bytearray(), 0
    try:
        async for piece in pieces:
            num_pieces += 1
            _check_bounds(len(body) + len(piece), num_pieces, max_bytes=max_bytes)
            share.take(len(piece))
            body += piece
            await asyncio.sleep(0)  # what is read already does not wait for the network
        return bytes(body)
    except BaseException:
        share.give_back(len(body))
        raise


def _check_bounds(num_bytes: int, num_pieces: int, *, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise _too_large(max_bytes)
    if num_pieces > FREE_PIECES + num_bytes // BYTES_PER_PIECE:
        raise UrlUnreachableError(BROKEN, cause="it comes in too many pieces")


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value.strip().lower() if name.lower() != b"location" else value)
    return found


def _too_large(max_bytes: int) -> ImageTooLargeError:
    return ImageTooLargeError("The image has more bytes than allowed.", limit=max_bytes)
