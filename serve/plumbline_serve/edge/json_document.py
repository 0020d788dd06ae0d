"""JSON bytes to a document of plain Python values."""

import re
from typing import Any

import jiter

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.settings import Limits

_FIELDS_AN_ITEM = 64  # more than any item has, brackets and names of images included
_PLACE = re.compile(r" at (line \d+ column \d+)$")


def read_json(body: bytes, limits: Limits) -> Any:
    """Parse a body: strict JSON in UTF-8, no member twice, no NaN, nested at most 200 deep.

    Blocks for about a millisecond a megabyte.

    Raises:
        MalformedRequestError: It is not such JSON.
        RequestTooLargeError: It has more values than any request within the limits, so that parsing would only eat
            memory: each comma stands between two values or in a text, and both are limited.
    """
    if not body:
        raise MalformedRequestError("The request has no body.")
    most = limits.max_items * (limits.max_text_chars + _FIELDS_AN_ITEM)
    if len(body) > most and body.count(b",") > most:
        raise RequestTooLargeError("The request has more JSON values than the limits allow items.", limit=most)
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        raise MalformedRequestError(_sentence(str(error))) from error


def _sentence(reason: str) -> str:
    """Say where the JSON is wrong, without the piece of it that the parser's own sentence may hold."""
    place = _PLACE.search(reason)
    where = f" at {place[1]}" if place else ""
    if reason.startswith("Detected duplicate key"):
        return f"The request's JSON has a member twice{where}."
    return f"The request is not valid JSON in UTF-8{where}."
