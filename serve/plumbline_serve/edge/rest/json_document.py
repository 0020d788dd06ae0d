"""A JSON text as plain values: strict, and not before it is known to hold no more of them than a request may.

Parsing makes an object of each value, and holds the interpreter until the last one is made: a million members stopped
the service for seconds, 60 MiB of brackets for a minute. So values are counted first. A body of more than
`INLINE_BYTES`, which is images in base64 for the most part, is read on a thread: its long strings are taken out and
decoded piece by piece, and what is left is parsed in one go, for that is small.
"""

import asyncio
import codecs
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jiter

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.rest.json_survey import LONG_BYTES, Survey, num_structural
from plumbline_serve.scheduling.concurrency import named_threads
from plumbline_serve.settings import Limits

MAX_ITEM_MEMBERS = 64  # more than any item has, brackets and names of images included
MAX_ITEM_VALUES = 1024  # the same of values that have no name, such as the numbers of a list
MAX_ITEM_BYTES = 2**16
"""The same of bytes outside of its long strings: texts with every character escaped, and numbers with all digits."""
MAX_QUESTION_MEMBERS, MAX_QUESTION_VALUES, MAX_QUESTION_BYTES = 8, 64, 2**13
"""The same of a question, in addition."""
INLINE_BYTES = 2**20
"""A body of no more is parsed on the event loop, which takes 20 ms at most."""
PIECE_BYTES = 2**20
"""The same of a long string's pieces, so that others wait no longer."""
NUM_THREADS = 2

_PLACE = re.compile(r" at (line \d+ column \d+)$")
_HALF_ESCAPE = "hex escape"  # what the parser's sentence says of half a surrogate pair, and of nothing else
_TEXT_FIELDS = frozenset({"text", "texts"})
_ESCAPE_BYTES = 6  # `\u0041`
_ASCII, _FIRST_OF_CHARACTER, _CHARACTER_BYTES = 0x7F, 0xC0, 4  # of UTF-8
_FIRST_HALF = re.compile(rb"\\u[dD][89abAB]..$", re.DOTALL)
_HALF_OUTSIDE = "The request's JSON holds half of a surrogate pair outside of a text."
_reading = named_threads(NUM_THREADS, "json")


async def read_json(body: bytes | bytearray, limits: Limits) -> Any:
    """Parse a body: strict JSON in UTF-8, no member twice, no NaN, nested at most 200 deep.

    A byte order mark is skipped. A text may hold half of a surrogate pair (half an emoji, written as an escape), which
    concerns its item alone.

    Args:
        body: The bytes.
        limits: The service's.

    Raises:
        MalformedRequestError: It is not such JSON.
        RequestTooLargeError: It has more values than any request within the limits.
    """
    body = body.removeprefix(codecs.BOM_UTF8) if body.startswith(codecs.BOM_UTF8) else body  # which may not copy it
    if not body:
        raise MalformedRequestError("The request has no body.")
    if len(body) > INLINE_BYTES:
        return await asyncio.get_running_loop().run_in_executor(_reading, _read_large, body, limits)
    most_members = _most_members(limits)
    if len(body) > most_members and num_structural(body) > most_members:  # it may have as many
        _survey(body, limits)
    return _parse(bytes(body))


def _most_members(limits: Limits) -> int:
    return limits.max_items * MAX_ITEM_MEMBERS + limits.max_questions * MAX_QUESTION_MEMBERS


def _survey(body: bytes | bytearray, limits: Limits) -> Survey:
    """What a body holds; raises where that is more than any request needs, as soon as it is seen."""
    most_members = _most_members(limits)
    most_values = limits.max_items * MAX_ITEM_VALUES + limits.max_questions * MAX_QUESTION_VALUES
    survey = Survey()
    for _ in survey.pieces(body):
        if (
            max(survey.num_colons, survey.num_containers) > most_members
            or survey.num_commas > most_values
            or survey.num_strings > most_members + most_values
        ):
            raise RequestTooLargeError("The request has more JSON values than the limits allow items.")
    return survey


def _read_large(body: bytes | bytearray, limits: Limits) -> Any:
    survey = _survey(body, limits)
    if survey.ends_inside:
        raise MalformedRequestError(_sentence("", has_place=False))
    num_long_bytes = sum(end - start for start, end in survey.long_strings)
    most_bytes = limits.max_items * MAX_ITEM_BYTES + limits.max_questions * MAX_QUESTION_BYTES
    if len(body) - num_long_bytes > max(INLINE_BYTES, most_bytes):
        raise RequestTooLargeError("The request has more JSON beside its images than the limits allow items.")
    token, strings, parts, behind = secrets.token_hex(16), dict[str, _LongString](), list[bytes](), 0
    for start, end in survey.long_strings:
        name = f"{token}{start}"
        strings[name] = _decode(body, start, end)
        parts += (bytes(body[behind:start]), name.encode())
        behind = end
    document = _parse(b"".join([*parts, bytes(body[behind:])]), is_whole=not strings)
    return _put_back(document, "", strings) if strings else document


@dataclass(frozen=True, slots=True)
class _LongString:
    text: str
    has_half: bool
    """Of a surrogate pair."""


def _decode(body: bytes | bytearray, start: int, end: int) -> _LongString:
    """A string's text, from the bytes between its quotes."""
    pieces, has_half = list[str](), False
    for piece in _pieces(body, start, end):
        text: str = _parse(b'"%s"' % piece, is_whole=False)
        has_half = has_half or (not text.isascii() and _has_half(text))
        pieces.append(text)
    return _LongString("".join(pieces), has_half)


def _pieces(body: bytes | bytearray, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a string, cut between characters and not within an escape or a pair of them."""
    whole = memoryview(body)
    while start < end:
        piece = bytes(whole[start : min(end, start + PIECE_BYTES)])
        if start + len(piece) < end:
            piece = piece[: _cut(piece)]
        yield piece
        start += len(piece)


def _cut(piece: bytes) -> int:
    """Where a piece may end that goes on, near its end."""
    plain = piece.replace(b"\\\\", b"__")  # backslashes that begin an escape are left
    escape = plain.rfind(b"\\")
    if escape >= len(piece) - 2 * _ESCAPE_BYTES:
        return escape - _ESCAPE_BYTES if _FIRST_HALF.search(plain[:escape]) else escape
    for length, byte in enumerate(reversed(piece[-_CHARACTER_BYTES:]), start=1):
        if byte <= _ASCII:
            break
        if byte >= _FIRST_OF_CHARACTER:
            return len(piece) - length
    return len(piece)


def _put_back(value: Any, name: str, strings: Mapping[str, _LongString]) -> Any:
    """A value with the long strings in it, which stands under a name."""
    if isinstance(value, dict):
        if any(each in strings for each in value):
            raise MalformedRequestError(f"The request's JSON has a name of more than {LONG_BYTES} bytes.")
        for each in value:
            value[each] = _put_back(value[each], each, strings)
    elif isinstance(value, list):
        value[:] = [_put_back(each, name, strings) for each in value]
    elif isinstance(value, str) and (long := strings.get(value)) is not None:
        if long.has_half and name not in _TEXT_FIELDS:
            raise MalformedRequestError(_HALF_OUTSIDE)
        return long.text
    return value


def _parse(body: bytes, *, is_whole: bool = True) -> Any:
    """Parse what is small; the place of an error is said where it is that of the whole body."""
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        if _HALF_ESCAPE in str(error):
            return _read_halves(body)
        raise MalformedRequestError(_sentence(str(error), has_place=is_whole)) from error


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
        if any(isinstance(each, str) and _has_half(each) for each in values):
            raise MalformedRequestError(_HALF_OUTSIDE)
    return document


def _has_half(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _refuse_constant(name: str) -> None:
    raise MalformedRequestError(f"The request's JSON holds {name}, which is no number.")


def _sentence(reason: str, *, has_place: bool) -> str:
    """Say where the JSON is wrong, without the piece of it that the parser's own sentence may hold."""
    place = _PLACE.search(reason)
    where = f" at {place[1]}" if place and has_place else ""
    if reason.startswith("Detected duplicate key"):
        return f"The request's JSON has a member twice{where}."
    return f"The request is not valid JSON in UTF-8{where}."
