import pytest

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.json_document import read_json
from plumbline_serve.settings import Limits

LIMITS = Limits(max_items=2, max_text_chars=10)
MALFORMED = [
    pytest.param(b"", id="empty"),
    pytest.param(b"   ", id="blank"),
    pytest.param(b"{", id="cut off"),
    pytest.param(b"{} {}", id="two documents"),
    pytest.param(b"{'a': 1}", id="single quotes"),
    pytest.param(b'{"a": 1,}', id="trailing comma"),
    pytest.param(b'{"a": NaN}', id="NaN"),
    pytest.param(b'{"a": -Infinity}', id="infinity"),
    pytest.param(b'{"a": 1, "a": 2}', id="member twice"),
    pytest.param(b'{"a": {"b": 1, "b": 1}}', id="member twice further down"),
    pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
    pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
    pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
    pytest.param(b'{"a": "\\ud800"}', id="lone surrogate"),
    pytest.param(b'{"a": "\x00"}', id="raw control character"),
    pytest.param(b"[" * 100_000, id="deeply nested"),
    pytest.param(b'{"a":' * 100_000, id="deeply nested objects"),
    pytest.param(b"[" * 5000 + b"]" * 5000, id="deeply nested and closed"),
    pytest.param(b"1" * 10_000, id="endless integer"),
    pytest.param(b"\x89PNG\r\n\x1a\n", id="an image"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_what_is_no_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        read_json(body, LIMITS)


def test_the_refusal_says_where_but_not_what() -> None:
    with pytest.raises(MalformedRequestError) as caught:
        read_json(b'{"secret": 1,\n "secret": 2}', LIMITS)
    assert caught.value.detail == "The request's JSON has a member twice at line 2 column 11."


@pytest.mark.parametrize("body", ["[1, 2.5, -0.0, true, null]", '{"ä": "\\u00e4😀"}'])
def test_other_json_is_read_as_it_is(body: str) -> None:
    assert read_json(body.encode(), LIMITS) == eval(body, {"true": True, "null": None})  # noqa: S307 - our own text


def test_more_values_than_any_request_needs_are_refused_before_they_are_made() -> None:
    with pytest.raises(RequestTooLargeError):
        read_json(b"[" + b"{}," * 1000 + b"{}]", LIMITS)


def test_texts_as_long_as_allowed_may_consist_of_commas() -> None:
    body = b'{"items": [{"text": ",,,,,,,,,,"}, {"text": ",,,,,,,,,,"}]}'
    assert len(read_json(body, LIMITS)["items"]) == 2
