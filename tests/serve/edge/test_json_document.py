import json
import threading

import jiter
import pytest

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.rest import json_document
from plumbline_serve.edge.rest.json_document import INLINE_BYTES, PIECE_BYTES, read_json
from plumbline_serve.edge.rest.json_survey import LONG_BYTES, SCAN_BYTES, Survey
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
    pytest.param(b'{"text": "\\ud800", "a": ' + b"[" * 5000, id="half a surrogate pair, deeply nested"),
    pytest.param(b'{"text": "\\ud800", "a": 1' + b"0" * 10_000 + b"}", id="half a surrogate pair, endless integer"),
    pytest.param(b'{"a": "\x00"}', id="raw control character"),
    pytest.param(b"[" * 5000, id="deeply nested"),
    pytest.param(b'{"a":' * 5000, id="deeply nested objects"),
    pytest.param(b"[" * 5000 + b"]" * 5000, id="deeply nested and closed"),
    pytest.param(b"1" * 10_000, id="endless integer"),
    pytest.param(b"\x89PNG\r\n\x1a\n", id="an image"),
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_what_is_no_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        await read_json(body, Limits())


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
    pytest.param(b"[%s]" % (b"[" * 150 + b"]" * 150) * 20_000, id="containers without a comma"),
    pytest.param(b"[%s]" % b",".join([b"1" * 2000] * 1500), id="bytes outside of strings"),
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
    survey = Survey()
    for _ in survey.pieces(json.dumps(document).encode()):
        pass
    assert (survey.num_commas, survey.num_colons, survey.num_containers, survey.num_strings) == (2, 2, 2, 5)
    (start, end), *_ = survey.long_strings
    assert json.dumps(document).encode()[start:end] == json.dumps(document["a" * shift][0])[1:-1].encode()


LONG = {
    "base64": "QUJD" * (INLINE_BYTES // 2),
    "line breaks": "QUJD\n" * (INLINE_BYTES // 4),
    "slashes": "a/" * INLINE_BYTES,
    "backslashes": "\\" * INLINE_BYTES,
    "backslashes, shifted": "x" + "\\" * INLINE_BYTES,
    "backslashes before halves of pairs": "\\ud83d\\" * (INLINE_BYTES // 4),
    "two bytes": "é" * INLINE_BYTES,
    "three bytes": "中" * (INLINE_BYTES // 2),
    "four bytes": "x" + "😀" * (INLINE_BYTES // 2),
    "quotes": '"' * INLINE_BYTES,
}


@pytest.mark.parametrize("is_ascii", [True, False], ids=["escaped", "as it is"])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
async def test_long_strings_are_read_as_they_are_wherever_they_are_cut(text: str, is_ascii: bool) -> None:
    document = {"images": {"a": {"b64": text}}, "items": [{"id": "1", "image": "a", "text": text}, [text, "b", 1]]}
    body = json.dumps(document, ensure_ascii=is_ascii).replace("/", "\\/").encode()
    assert len(body) > INLINE_BYTES
    assert await read_json(body, LIMITS) == document
    assert await read_json(bytearray(body), LIMITS) == document


BEYOND_INLINE = b'"' + b"A" * INLINE_BYTES + b'"'
LONG_MALFORMED = [
    pytest.param(b'{"a": "%s\\x"}' % (b"A" * INLINE_BYTES), id="no escape"),
    pytest.param(b'{"a": "%s\n"}' % (b"A" * INLINE_BYTES), id="control character"),
    pytest.param(b'{"a": "%s\xff%s"}' % (b"A" * INLINE_BYTES, b"A" * INLINE_BYTES), id="not UTF-8"),
    pytest.param(b'{"a": "%s"}' % (b"\x80" * 2 * INLINE_BYTES), id="middles of characters"),
    pytest.param(b'{"a": "%s\\ud800"}' % (b"A" * INLINE_BYTES), id="half a pair outside of a text"),
    pytest.param(b"{%s: 1}" % BEYOND_INLINE, id="long name"),
    pytest.param(b'{"a": %s, "a": 1}' % BEYOND_INLINE, id="member twice"),
    pytest.param(b'{"a": %s} {}' % BEYOND_INLINE, id="two documents"),
    pytest.param(b'{"a": \\"%s}' % BEYOND_INLINE, id="escaped quote outside of a string"),
    pytest.param(b'{"a": "%s' % (b"A" * INLINE_BYTES), id="no end"),
]


@pytest.mark.parametrize("body", LONG_MALFORMED)
async def test_what_is_no_strict_json_is_refused_in_large_bodies_too(body: bytes) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        await read_json(body, LIMITS)
    assert " at " not in caught.value.detail  # the place would be that of another text


async def test_half_a_surrogate_pair_may_stand_in_a_long_text() -> None:
    text = "\ud800" * (INLINE_BYTES // 4)
    assert await read_json(json.dumps({"text": text}).encode(), LIMITS) == {"text": text}


async def test_of_large_bodies_only_little_is_parsed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[tuple[int, str]] = []

    class Noted:
        @staticmethod
        def from_json(body: bytes, **options: object) -> object:
            parsed.append((len(body), threading.current_thread().name))
            return jiter.from_json(body, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(json_document, "jiter", Noted)
    texts = [b"QUJD" * INLINE_BYTES, b"\\u4e2d" * INLINE_BYTES, "中".encode() * INLINE_BYTES, b"A" * LONG_BYTES]
    await read_json(b'{"items":[%s]}' % b",".join(b'{"text":"%s"}' % text for text in texts), LIMITS)
    assert max(size for size, _ in parsed) <= PIECE_BYTES + 2
    assert all(thread.startswith("json") for _, thread in parsed)
    parsed.clear()
    await read_json(b'{"text":"%s"}' % (b"A" * (INLINE_BYTES // 2)), LIMITS)
    assert [thread for _, thread in parsed] == [threading.current_thread().name]
