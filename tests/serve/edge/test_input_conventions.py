"""What senders may write in several ways: each is read, over a real socket."""

import base64
import json
import socket

import pytest

from plumbline_wire.v1 import scoring_pb2 as pb

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


@pytest.mark.parametrize("control", ["\0", "\r\n", "\x1b[31m", "\x7f", "\u2028", "\ufeff", "\U0010ffff"], ids=repr)
def test_control_characters_in_ids_and_texts_come_back_as_they_were_over_both_wires(edge, control: str) -> None:
    name, text = f"id{control}", f"a{control}b"
    document = {"items": [{"id": name, "text": text, "image": {"b64": "aGFsbG8="}}]}
    by_rest = edge.post("/v1/score", document).json()["results"]
    item = pb.Item(id=name, text=text, image=pb.ImageSource(data=b"hallo"))
    [by_grpc] = edge.rpc.Score(pb.ScoreRequest(items=[item])).results
    assert [result["id"] for result in by_rest] == [by_grpc.id] == [name]
    assert [request.items[0].text for request in edge.service.received] == [text, text]


@pytest.mark.parametrize("control", [b"\0", b"\x1b", b"\x7f", b"\x01"], ids=repr)
def test_a_control_character_in_a_header_reaches_neither_reply_nor_log(edge, control: bytes, caplog) -> None:
    head = b"GET /v1/scorers HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: a%sb\r\n\r\n" % control
    with socket.create_connection(edge.address, timeout=30) as connection:
        connection.sendall(head)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert control not in received
    assert control.decode() not in caplog.text
