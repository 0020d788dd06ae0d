"""JSON bytes to a document of plain Python values."""

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any

import jiter

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.settings import Limits

_FIELDS_AN_ITEM = 64  # more than any item has, brackets and names of images included
_PLACE = re.compile(r" at (line \d+ column \d+)$")
_HALF_ESCAPE = "hex escape"  # what the parser's sentence says of half a surrogate pair, and of nothing else
_HALF = re.compile(r"[\ud800-\udfff]")
_TEXT_FIELDS = frozenset({"text", "texts"})


def read_json(body: bytes, limits: Limits) -> Any:
    """Parse a body: strict JSON in UTF-8, no member twice, no NaN, nested at most 200 deep.

    A byte order mark is skipped. A text may hold half of a surrogate pair (half an emoji, written as an escape), which
    concerns its item alone. Blocks for about a millisecond a megabyte.

    Raises:
        MalformedRequestError: It is not such JSON.
        RequestTooLargeError: It has more values than any request within the limits, so that parsing would only eat
            memory: each comma stands between two values or in a text, and both are limited.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body:
        raise MalformedRequestError("The request has no body.")
    most = limits.max_items * (limits.max_text_chars + _FIELDS_AN_ITEM)
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
