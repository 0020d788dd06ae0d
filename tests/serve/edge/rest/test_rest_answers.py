"""What right requests are answered, over a real socket."""

import base64
import re
import struct

import numpy as np
import orjson
import pytest

from plumbline_models.core.questions import Question
from plumbline_serve.edge import schemas
from plumbline_serve.messages import Base64Image, BrokenImage, Combination, EncodedImage, Item, RawImage, Term, UrlImage

HALLO = b"hallo"  # adds up to 528, a third of which is 176
B64 = {"b64": base64.b64encode(HALLO).decode()}
ASKED = [{"text": "q"}, {"text": "r", "expect": "no", "tag": "", "depends_on": [0]}]


def test_a_score_reply_has_every_member_of_the_contract(edge) -> None:
    reply = edge.post("/v1/score", {"items": [{"id": "x", "image": B64, "text": "hi"}]}, headers={"x-request-id": "me"})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    word = {"text": "hi", "start": 0, "end": 2, "attribution": float(np.float32(176) / 7), "misaligned": True}
    worded = {"value": 176.0, "cosine": float(np.float32(0.1)), "words": [word], "num_tokens": 5, "by_layer": [0.5]}
    assert reply.json() == {
        "request_id": "me",
        "results": [{"id": "x", "status": "ok", "scores": {"sum": {"value": 176.0}, "worded": worded}}],
        "timing_ms": {"decode": 0.1, "queue": 0.2, "compute": 1 / 3, "total": 2.5},
    }


def test_numbers_are_printed_as_the_doubles_that_they_equal(edge) -> None:
    reply = edge.post("/v1/score", {"items": [{"image": {"b64": "aGFsbG8h"}, "text": "hi"}]})
    value = float(np.float32(sum(b"hallo!") / 3))
    assert f'"sum":{{"value":{value!r}}}' in reply.text
    assert '"cosine":0.10000000149011612' in reply.text


def test_one_bad_item_does_not_fail_its_neighbours(edge) -> None:
    items = [{"image": {"part": "a"}}, {"image": B64, "text": "hi"}, {"image": "nowhere"}, {"image": B64}]
    results = edge.post("/v1/score", {"items": items}).json()["results"]
    assert [(each["id"], each["status"]) for each in results] == [
        ("0", "error"),
        ("1", "ok"),
        ("2", "error"),
        ("3", "ok"),
    ]
    assert results[0]["error"]["code"] == "unknown_image"
    assert "request_id" not in results[0]["error"]
    assert results[3]["scores"]["sum"] == {"value": 176.0}
    assert results[3]["scores"]["worded"]["error"]["code"] == "missing_text"


def test_every_source_reaches_the_service_as_what_it_is(edge, form) -> None:
    document = {
        "images": {"k": {"part": "a"}, "r": {"part": "a", "raw": {"height": 1, "width": 2, "channels": 4}}},
        "items": [
            {"image": "k"},
            {"image": {"part": "a"}, "text": ""},
            {"id": "", "image": {"url": "https://example.com/a.png"}},
            {"image": B64},
            {"image": {"part": "b"}},
            {"text": "only", "references": ["x", ""], "reference_image": "k", "phrases": []},
            {},
            {"references": None, "reference_image": {"part": "a"}, "phrases": ["y"], "questions": ASKED},
        ],
        "scorers": ["sum"],
        "timeout_ms": 60_000,
        "priority": "interactive",
        "deterministic": True,
    }
    edge.http.post("/v1/score", **form(orjson.dumps(document), a=HALLO))
    (received,) = edge.service.received
    assert received.images == {"k": EncodedImage(HALLO), "r": RawImage(HALLO, height=1, width=2, channels=4)}
    assert received.scorers == ["sum"]
    assert 0 < received.timeout_ms <= 60_000
    assert received.priority == "interactive"
    assert received.deterministic is True
    assert received.items[:4] == [
        Item("0", "k", None),
        Item("1", EncodedImage(HALLO), ""),
        Item("", UrlImage("https://example.com/a.png"), None),
        Item("3", Base64Image(B64["b64"]), None),
    ]
    assert isinstance(received.items[4].image, BrokenImage)
    assert received.items[5:] == [
        Item("5", None, "only", references=("x", ""), reference_image="k"),
        Item("6", None, None),
        Item(
            id="7",
            image=None,
            text=None,
            reference_image=EncodedImage(HALLO),
            phrases=("y",),
            questions=(Question("q"), Question("r", "no", "", (0,))),
        ),
    ]


def test_combinations_reach_the_service(edge) -> None:
    terms = [{"scorer": "a", "min": 0, "max": 2}, {"scorer": "b", "weight": -1}]
    asked = {"combine": {"r": {"method": "sum", "terms": terms}}}
    policy = {"policy": {"all": [{"scorer": "r", "min": 0}]}}
    edge.post("/v1/score", {"items": [{}], **asked})
    edge.post("/v1/filter", {"items": [{}], **policy, **asked})
    edge.post("/v1/rank", {"text": "a", "images": [B64], "scorer": "r", **asked})
    expected = {"r": Combination("sum", [Term("a", min=0, max=2), Term("b", weight=-1)])}
    assert [request.combine for request in edge.service.received] == [expected] * 3


def test_a_form_and_json_are_scored_alike(edge, form) -> None:
    as_json = edge.post("/v1/score", {"items": [{"image": B64, "text": "hi"}]}).json()
    as_form = edge.http.post("/v1/score", **form(b'{"items":[{"image":{"part":"a"},"text":"hi"}]}', a=HALLO)).json()
    assert as_form["results"] == as_json["results"]


def test_a_form_may_carry_its_document_last_and_parts_nobody_names(edge) -> None:
    files = {"a": ("a", HALLO), "stray": ("s", b"x"), "request": (None, b'{"items":[{"image":{"part":"a"}}]}')}
    reply = edge.http.post("/v1/score", files=files)
    assert reply.json()["results"][0]["scores"]["sum"] == {"value": 176.0}


def test_a_form_within_the_limit_may_be_nearly_as_large_as_it(edge, form) -> None:
    data = bytes(2**20 - 1000)
    reply = edge.http.post("/v1/score", **form(b'{"items":[{"image":{"part":"a"}}]}', a=data))
    assert reply.json()["results"][0]["scores"]["sum"] == {"value": 0.0}
    assert edge.service.received[0].items[0].image == EncodedImage(data)


def test_a_filter_reply_says_accept_or_reject_and_why(edge) -> None:
    items = [{"image": B64, "text": "a"}, {"image": {"b64": ""}, "text": "b"}, {"image": {"url": "x"}}]
    policy = {"all": [{"scorer": "sum", "min": 100.0}]}
    results = edge.post("/v1/filter", {"policy": policy, "items": items}).json()["results"]
    assert [(each["status"], each.get("verdict"), each.get("failed")) for each in results] == [
        ("ok", "accept", []),
        ("ok", "reject", ["sum"]),
        ("error", None, None),
    ]
    assert results[1]["scores"]["sum"] == {"value": 0.0}


def test_a_rank_reply_orders_and_names_what_could_not_be_scored(edge) -> None:
    images = [{"b64": ""}, {"url": "x"}, B64]
    reply = edge.post("/v1/rank", {"text": "hi", "images": images}).json()
    assert reply["ranking"] == [{"index": 2, "value": 176.0}, {"index": 0, "value": 0.0}]
    assert [(each["index"], each["error"]["code"]) for each in reply["errors"]] == [(1, "image_undecodable")]
    assert reply["scorer"] == "sum"


def test_a_rank_reply_without_errors_does_not_mention_them(edge) -> None:
    reply = edge.post("/v1/rank", {"image": B64, "texts": ["a", "b"], "top_k": 1, "scorer": "sum"}).json()
    assert reply["ranking"] == [{"index": 0, "value": 176.0}]
    assert "errors" not in reply
    received = edge.service.received[0]
    assert (received.texts, received.top_k, received.scorer) == (["a", "b"], 1, "sum")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_come_as_numbers_or_as_bytes_with_errors_in_place(edge, encoding: str) -> None:
    images = [{"b64": "aGFsbG8h"}, {"url": "x"}]
    reply = edge.post("/v1/embed", {"images": images, "encoding": encoding}).json()
    assert (reply["model"], reply["dim"], reply["encoding"]) == ("mini/image", 3, encoding)
    assert "truncated" not in reply
    number = np.float32(sum(b"hallo!") / 3)
    vector, failed = reply["vectors"]
    assert failed["error"]["code"] == "image_undecodable"
    if encoding == "base64":
        assert struct.unpack("<3f", base64.b64decode(vector)) == (number,) * 3
    else:
        assert vector == [float(number)] * 3


def test_the_lists_say_what_is_loaded(edge) -> None:
    scorer, *_ = edge.http.get("/v1/scorers").json()["scorers"]  # then classifiers that other tests leave
    assert scorer["id"] == "sum"
    assert (scorer["low"], scorer["high"], scorer["higher_is_better"]) == (0.0, None, True)
    (encoder,) = edge.http.get("/v1/models").json()["models"]
    assert encoder["key"] in scorer["encoders"]
    assert encoder["notes"] == {"context": "77"}


def test_liveness_and_readiness_are_told_apart(edge) -> None:
    assert edge.http.get("/readyz").json() == {"status": "ready"}
    edge.service.is_ready = False
    unready = edge.http.get("/readyz")
    assert (unready.status_code, unready.json()["code"]) == (503, "not_ready")
    assert int(unready.headers["retry-after"]) >= 1
    assert edge.http.get("/livez").json() == {"status": "alive"}


def test_readiness_says_how_each_group_of_encoders_is(edge) -> None:
    edge.service.groups.update({"clip": "ready", "vqa": "asleep"})
    assert edge.http.get("/readyz").json() == {"status": "ready", "groups": {"clip": "ready", "vqa": "asleep"}}
    edge.service.groups["vqa"] = "away"
    edge.service.is_ready = False
    assert edge.http.get("/readyz").json()["groups"] == {"clip": "ready", "vqa": "away"}


def test_metrics_are_passed_on_as_prometheus_reads_them(edge) -> None:
    reply = edge.http.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.content == b"# HELP plumbline_requests_total Requests answered.\n"


@pytest.mark.parametrize("path", ["/livez", "/v1/scorers", "/openapi.json", "/", "/nope"])
def test_head_answers_as_get_does_without_the_body(edge, path: str) -> None:
    head, get = edge.http.head(path), edge.http.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(("path", "allow"), [("/v1/score", "OPTIONS, POST"), ("/livez", "GET, HEAD, OPTIONS")])
def test_options_tells_what_a_route_takes(edge, path: str, allow: str) -> None:
    reply = edge.http.options(path)
    assert (reply.status_code, reply.headers["allow"], reply.content) == (204, allow, b"")


ANSWERS = [
    pytest.param("GET", "/livez", {}, id="success"),
    pytest.param("GET", "/nope", {}, id="no route"),
    pytest.param("DELETE", "/v1/score", {}, id="no method"),
    pytest.param("OPTIONS", "/v1/score", {}, id="options"),
    pytest.param("HEAD", "/livez", {}, id="head"),
    pytest.param("POST", "/v1/score", {"content": b"{"}, id="malformed"),
    pytest.param("POST", "/v1/score", {"json": {"items": [{"text": "crash"}]}}, id="bug"),
    pytest.param("POST", "/v1/score", {"content": bytes(2**20 + 1)}, id="too large"),
    pytest.param("GET", "/swagger-ui.css", {}, id="file"),
]


@pytest.mark.parametrize(("method", "path", "body"), ANSWERS)
def test_every_answer_carries_a_request_id(edge, method, path, body) -> None:
    for sent in ("my-id 1", "é".encode(), "x" * 129, None):
        headers = {} if sent is None else {"x-request-id": sent}
        reply = edge.http.request(method, path, headers=headers, **body)
        named = reply.headers["x-request-id"]
        assert named == sent if sent == "my-id 1" else re.fullmatch(r"[0-9a-f]{32}", named)
        if reply.headers.get("content-type") == "application/problem+json":
            assert reply.json()["request_id"] == named


def test_replies_are_as_the_documented_schemas_say(edge) -> None:
    items = [{"image": B64, "text": "hi"}, {"image": B64}, {"image": "x"}]
    score = edge.post("/v1/score", {"items": items})
    schemas.ScoreReply.model_validate_json(score.content, strict=True)
    policy = {"all": [{"scorer": "sum", "max": 1.0}]}
    judged = edge.post("/v1/filter", {"items": items, "policy": policy})
    schemas.FilterReply.model_validate_json(judged.content, strict=True)
    ranked = edge.post("/v1/rank", {"text": "a", "images": [B64, {"url": "x"}]})
    schemas.RankReply.model_validate_json(ranked.content, strict=True)
    for encoding in ("float", "base64"):
        embedded = edge.post("/v1/embed", {"images": [B64, {"url": "x"}], "encoding": encoding})
        schemas.EmbedReply.model_validate_json(embedded.content, strict=True)
    schemas.ScorersReply.model_validate_json(edge.http.get("/v1/scorers").content, strict=True)
    schemas.ModelsReply.model_validate_json(edge.http.get("/v1/models").content, strict=True)
    schemas.Problem.model_validate_json(edge.post("/v1/score", {}).content, strict=True)
