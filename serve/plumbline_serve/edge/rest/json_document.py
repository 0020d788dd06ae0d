"""A JSON text as plain values: strict, and not before it is known to hold no more of them than a request may.

Parsing makes an object of each value and holds the interpreter meanwhile: a million members stopped the service for
seconds. So values are counted first, which costs nothing where there are few commas, and is done on a thread that lets
others run where there are many.
"""

import asyncio
import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jiter
import numpy as np

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.concurrency import named_threads
from plumbline_serve.settings import Limits

MAX_ITEM_MEMBERS = 64  # more than any item has, brackets and names of images included
MAX_ITEM_VALUES = 1024  # the same of values that have no name, such as the numbers of a list
MAX_QUESTION_MEMBERS = 8
MAX_QUESTION_VALUES = 64
SCAN_BYTES = 2**20  # looked at before other threads get their turn

_COMMA, _COLON, _QUOTE = b',:"'
_PLACE = re.compile(r" at (line \d+ column \d+)$")
_HALF_ESCAPE = "hex escape"  # what the parser's sentence says of half a surrogate pair, and of nothing else
_TEXT_FIELDS = frozenset({"text", "texts"})
_counting = named_threads(1, "json")


async def read_json(body: bytes, limits: Limits) -> Any:
    """Parse a body: strict JSON in UTF-8, no member twice, no NaN, nested at most 200 deep.

    A byte order mark is skipped. A text may hold half of a surrogate pair (half an emoji, written as an escape), which
    concerns its item alone. Blocks for about a millisecond per megabyte.

    Args:
        body: The bytes.
        limits: The service's.

    Raises:
        MalformedRequestError: It is not such JSON.
        RequestTooLargeError: It has more values than any request within the limits.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body:
        raise MalformedRequestError("The request has no body.")
    num_items, num_questions = limits.max_items, limits.max_questions
    most_members = num_items * MAX_ITEM_MEMBERS + num_questions * MAX_QUESTION_MEMBERS
    most_values = num_items * MAX_ITEM_VALUES + num_questions * MAX_QUESTION_VALUES
    if len(body) > most_members and _num_commas(body) > most_members:  # it may have as many members
        loop = asyncio.get_running_loop()
        num_commas, num_colons = await loop.run_in_executor(_counting, count_values, body)
        if num_commas > most_values or num_colons > most_members:
            raise RequestTooLargeError("The request has more JSON values than the limits allow items.")
    return _parse(body)


def _num_commas(body: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == _COMMA))  # ten times as fast as `bytes.count`


def count_values(body: bytes) -> tuple[int, int]:
    """How many commas and colons of a JSON text stand outside of its strings."""
    num_commas = num_colons = 0
    is_inside = False
    for piece in _without_escapes(body):
        found = np.frombuffer(piece, np.uint8)
        is_outside = np.logical_xor.accumulate(found == _QUOTE)
        if not is_inside:
            np.logical_not(is_outside, out=is_outside)
        num_commas += int(np.count_nonzero(is_outside & (found == _COMMA)))
        num_colons += int(np.count_nonzero(is_outside & (found == _COLON)))
        is_inside = not is_outside[-1]
    return num_commas, num_colons


def _without_escapes(body: bytes) -> Iterator[bytes]:
    """The text in pieces, none of them empty, without what stands for a quote or a backslash in a string."""
    is_escaped = False
    for start in range(0, len(body), SCAN_BYTES):
        piece = body[start + is_escaped : start + SCAN_BYTES].replace(b"\\\\", b"")
        is_escaped = piece.endswith(b"\\")
        if piece := piece.replace(b'\\"', b""):
            yield piece


def _parse(body: bytes) -> Any:
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
        if any(isinstance(each, str) and _has_half(each) for each in values):
            raise MalformedRequestError("The request's JSON holds half of a surrogate pair outside of a text.")
    return document


def _has_half(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _refuse_constant(name: str) -> None:
    raise MalformedRequestError(f"The request's JSON holds {name}, which is no number.")


def _sentence(reason: str) -> str:
    """Say where the JSON is wrong, without the piece of it that the parser's own sentence may hold."""
    place = _PLACE.search(reason)
    where = f" at {place[1]}" if place else ""
    if reason.startswith("Detected duplicate key"):
        return f"The request's JSON has a member twice{where}."
    return f"The request is not valid JSON in UTF-8{where}."
