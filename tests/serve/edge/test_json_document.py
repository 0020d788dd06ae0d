import json

import pytest

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.rest import json_document
from plumbline_serve.edge.rest.json_document import SCAN_BYTES, count_values, read_json
from plumbline_serve.settings import Limits

LIMITS = Limits(max_items=2, max_questions=1, max_text_chars=10)
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
    pytest.param(b"\xef\xbb\xbf\xef\xbb\xbf{}", id="two byte order marks"),
    pytest.param(b'{"a": "\\ud800"}', id="half a surrogate pair outside of a text"),
    pytest.param(b'{"\\ud800": 1}', id="half a surrogate pair in a name"),
    pytest.param(b'{"scorers": ["\\udc00"]}', id="half a surrogate pair in an array"),
    pytest.param(b'{"text": "\\ud800", "a": NaN}', id="half a surrogate pair and NaN"),
    pytest.param(b'{"text": "\\ud800", "text": "a"}', id="half a surrogate pair and a member twice"),
    pytest.param(b'{"text": "\\ud800", "a": ' + b"[" * 100_000, id="half a surrogate pair, deeply nested"),
    pytest.param(b'{"text": "\\ud800", "a": 1' + b"0" * 10_000 + b"}", id="half a surrogate pair, endless integer"),
    pytest.param(b'{"a": "\x00"}', id="raw control character"),
    pytest.param(b"[" * 100_000, id="deeply nested"),
    pytest.param(b'{"a":' * 100_000, id="deeply nested objects"),
    pytest.param(b"[" * 5000 + b"]" * 5000, id="deeply nested and closed"),
    pytest.param(b"1" * 10_000, id="endless integer"),
    pytest.param(b"\x89PNG\r\n\x1a\n", id="an image"),
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_what_is_no_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        await read_json(body, LIMITS)


async def test_the_refusal_says_where_but_not_what() -> None:
    with pytest.raises(MalformedRequestError) as caught:
        await read_json(b'{"secret": 1,\n "secret": 2}', LIMITS)
    assert caught.value.detail == "The request's JSON has a member twice at line 2 column 11."


@pytest.mark.parametrize("body", ["[1, 2.5, -0.0, true, null]", '{"ä": "\\u00e4😀"}'])
async def test_other_json_is_read_as_it_is(body: str) -> None:
    assert await read_json(body.encode(), LIMITS) == eval(body, {"true": True, "null": None})  # noqa: S307 - our own text


async def test_a_byte_order_mark_is_skipped() -> None:
    assert await read_json(b'\xef\xbb\xbf{"a": 1}', LIMITS) == {"a": 1}


@pytest.mark.parametrize("half", ["\\ud83d", "\\ud83d!", "\\ud83d\\ud83d\\ude00", "\\udE00", "\\ude00\\uD83D"])
async def test_half_a_surrogate_pair_may_stand_in_a_text(half: str) -> None:
    text = json.loads(f'"{half}"')
    document = {"text": text, "texts": ["a", text], "items": [{"id": "1", "text": text}]}
    assert await read_json(json.dumps(document).encode(), LIMITS) == document


MANY = [
    pytest.param(b"[" + b"{}," * 3000 + b"{}]", id="values"),
    pytest.param(b"{%s}" % b",".join(b'"%d":0' % number for number in range(200)), id="members"),
    pytest.param(b'["\\\\",%s{}]' % (b"{}," * 3000), id="values behind an escaped backslash"),
    pytest.param(b'[" %s",%s{}]' % (b"\\\\" * SCAN_BYTES, b"{}," * 3000), id="values behind a text of backslashes"),
]


@pytest.mark.parametrize("body", MANY)
async def test_more_values_than_any_request_needs_are_refused_before_they_are_made(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(json_document, "jiter")
    with pytest.raises(RequestTooLargeError):
        await read_json(body, LIMITS)


async def test_texts_as_long_as_allowed_may_consist_of_commas() -> None:
    body = b'{"items": [{"text": ",,,,,,,,,,"}, {"text": ",,,,,,,,,,"}]}'
    assert len((await read_json(body, LIMITS))["items"]) == 2


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("text", [',:"\\', "\\\\", '\\"', ":,"], ids=["all", "backslashes", "escaped quote", "plain"])
async def test_commas_and_colons_in_strings_are_no_values(text: str, shift: int) -> None:
    document = {"a" * shift: [text * (SCAN_BYTES // len(text)), text], "b": text}
    assert count_values(json.dumps(document).encode()) == (2, 2)
