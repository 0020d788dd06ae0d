"""What senders may write in several ways: each is read, over a real socket."""

import base64
import json

import pytest

EMBED = {"texts": ["abc"]}


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-8; version=1",
        'application/json; version="1; x"; charset="UTF-8"',
        "application/json ;charset=us-ascii",
        "application/json; version=1",
        "application/json;",
    ],
)
def test_json_may_be_declared_with_parameters(edge, kind: str) -> None:
    reply = edge.http.post("/v1/embed", content=json.dumps(EMBED).encode(), headers={"content-type": kind})
    assert reply.status_code == 200, reply.text


def test_another_charset_behind_another_parameter_is_refused(edge) -> None:
    kind = "application/json; version=1; charset=utf-16"
    assert edge.http.post("/v1/embed", content=b"{}", headers={"content-type": kind}).status_code == 415


def test_a_byte_order_mark_before_json_is_skipped(edge, form) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(EMBED).encode()
    for sent in ({"content": body, "headers": {"content-type": "application/json"}}, form(body)):
        assert edge.http.post("/v1/embed", **sent).status_code == 200


@pytest.mark.parametrize("key", ["b64", "url"])
def test_an_image_may_be_a_data_url(edge, key: str) -> None:
    source = {key: "data:image/png;base64," + base64.b64encode(b"\x01\x02").decode()}
    edge.post("/v1/score", {"items": [{"image": source}]})
    image = edge.service.received[-1].items[0].image
    assert image.text == source[key]


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        pytest.param('a"b', b"a%22b", id="as browsers write it"),
        pytest.param('a"b', b'a\\"b', id="as mail writes it"),
        pytest.param("a\r\nb", b"a%0D%0Ab", id="line break"),
        pytest.param("a%22b", b"a%22b", id="as it is"),
    ],
)
def test_a_part_is_found_by_its_name(edge, named: str, sent: bytes) -> None:
    document = json.dumps({"items": [{"image": {"part": named}}]}).encode()
    parts = [(b"request", document), (sent, b"\x01\x02")]
    body = b"".join(b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part for part in parts)
    headers = {"content-type": "multipart/form-data; boundary=b"}
    reply = edge.http.post("/v1/score", content=b"a preamble\r\n" + body + b"--b--\r\nan epilogue", headers=headers)
    assert reply.json()["results"][0]["status"] == "ok", reply.text


def test_half_an_emoji_reaches_the_item_that_it_concerns(edge) -> None:
    json_type = {"content-type": "application/json"}
    items = b'{"items": [{"text": "\\ud83d"}, {"text": "a"}]}'
    assert edge.http.post("/v1/score", content=items, headers=json_type).status_code == 200
    assert [item.text for item in edge.service.received[-1].items] == ["\ud83d", "a"]
    name = b'{"items": [{"id": "\\ud83d", "text": "a"}]}'
    reply = edge.http.post("/v1/score", content=name, headers=json_type)
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed_request")
