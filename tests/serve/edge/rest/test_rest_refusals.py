"""What wrong requests are answered, over a real socket: always a problem, never a crash, never a hang."""

import httpx
import pytest

from plumbline_models.core.errors import error_classes
from plumbline_serve.edge.problems import TYPE_BASE

JSON = {"content-type": "application/json"}
POSTS = ["/v1/score", "/v1/filter", "/v1/rank", "/v1/embed"]
GETS = ["/v1/scorers", "/v1/models", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/"]
B64 = {"b64": "aGFsbG8="}


def check_problem(reply: httpx.Response, status: int, code: str) -> dict:
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["type"] == TYPE_BASE + code.replace("_", "-")
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert {"title", "detail"} <= problem.keys()
    return problem


BODIES = [
    pytest.param(b"", 400, "malformed_request", id="no body"),
    pytest.param(b"{", 400, "malformed_request", id="cut off"),
    pytest.param(b"\xff\xfe", 400, "malformed_request", id="not UTF-8"),
    pytest.param(b'{"timeout_ms": NaN}', 400, "malformed_request", id="NaN"),
    pytest.param(b'{"items": [], "items": []}', 400, "malformed_request", id="member twice"),
    pytest.param(b"[" * 500, 400, "malformed_request", id="deeply nested"),
    pytest.param(b"[" * 500_000, 413, "request_too_large", id="a great deal more deeply nested"),
    pytest.param(b"null", 422, "invalid_field", id="null"),
    pytest.param(b"[]", 422, "invalid_field", id="an array"),
    pytest.param(b'"text"', 422, "invalid_field", id="a string"),
    pytest.param(b"{}", 422, "invalid_field", id="an empty object"),
    pytest.param(b'{"unknown": 1}', 422, "invalid_field", id="unknown field"),
    pytest.param(b'{"timeout_ms": 1e400}', 422, "invalid_field", id="endless timeout"),
    pytest.param(b'{"timeout_ms": 1' + b"0" * 400 + b"}", 422, "invalid_field", id="huge integer"),
    pytest.param(b'{"timeout_ms": 1' + b"0" * 9000 + b"}", 400, "malformed_request", id="endless integer"),
    pytest.param(b'{"items": [' + b"{}," * 8 + b'{}], "images": {}}', 413, "too_many_items", id="too many items"),
    pytest.param(b'{"texts": [' + b'"a",' * 8 + b'"a"]}', 413, "too_many_items", id="too many texts"),
    pytest.param(b'{"items": [' + b"0," * 10_000 + b"0]}", 413, "request_too_large", id="too many values"),
    pytest.param(b" " * (2**20 + 1), 413, "request_too_large", id="too many bytes"),
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(("body", "status", "code"), BODIES)
def test_a_broken_body_is_refused(edge, path: str, body: bytes, status: int, code: str) -> None:
    check_problem(edge.http.post(path, content=body, headers=JSON), status, code)
    assert edge.service.received == []
    edge.notebook.wait_for((path, "rest", str(status)))
    assert edge.notebook.rejections == [code]


def test_a_body_over_the_limit_without_a_declared_length_is_refused(edge) -> None:
    def chunks():
        for _ in range(40):
            yield bytes(2**15)

    check_problem(edge.http.post("/v1/score", content=chunks(), headers=JSON), 413, "request_too_large")


def test_a_form_over_the_limit_is_refused(edge, form) -> None:
    reply = edge.http.post("/v1/score", **form(b'{"items":[]}', a=bytes(2**20)))
    check_problem(reply, 413, "request_too_large")


def test_a_field_error_points_at_the_field(edge) -> None:
    problem = check_problem(edge.post("/v1/score", {"items": [{"text": 5}]}), 422, "invalid_field")
    assert problem["errors"] == [{"pointer": "/items/0/text", "detail": "must be a string"}]
    assert problem["detail"] == "The request is not as the schema says: /items/0/text must be a string."


TYPES = [
    pytest.param({}, id="none"),
    pytest.param({"content-type": "text/plain"}, id="text"),
    pytest.param({"content-type": "application/x-www-form-urlencoded"}, id="a form of another kind"),
    pytest.param({"content-type": "image/png"}, id="an image"),
    pytest.param({"content-type": "application/jsonp"}, id="nearly JSON"),
    pytest.param({"content-type": "application/json; charset=utf-16"}, id="another charset"),
    pytest.param(JSON | {"content-encoding": "gzip"}, id="compressed"),
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("headers", TYPES)
def test_another_media_type_is_refused(edge, path: str, headers: dict[str, str]) -> None:
    check_problem(edge.http.post(path, content=b"{}", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["Application/JSON", "application/json; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_may_be_declared_in_several_ways(edge, kind: str) -> None:
    reply = edge.http.post("/v1/embed", content=b'{"texts":["a"]}', headers={"content-type": kind})
    assert reply.status_code == 200


FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="'
FORMS = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"{}", id="JSON"),
    pytest.param(b"--b--\r\n", id="no parts"),
    pytest.param(HEAD + b'a"\r\n\r\nx\r\n--b--\r\n', id="no request part"),
    pytest.param(HEAD + b'request"\r\n\r\n{}\r\n', id="cut off after a part"),
    pytest.param(HEAD + b'request"\r\n\r\n{}', id="cut off in a part"),
    pytest.param(HEAD + b'request"\r\n\r\n{\r\n--b--\r\n', id="broken JSON"),
    pytest.param(HEAD + b'request"\r\n\r\n\r\n--b--\r\n', id="empty JSON"),
    pytest.param((HEAD + b'request"\r\n\r\n{}\r\n') * 2 + b"--b--\r\n", id="two request parts"),
]


@pytest.mark.parametrize("body", FORMS)
def test_a_broken_form_is_refused(edge, body: bytes) -> None:
    check_problem(edge.http.post("/v1/score", content=body, headers=FORM), 400, "malformed_request")


def test_a_form_without_boundary_is_refused(edge) -> None:
    reply = edge.http.post("/v1/score", content=b"x", headers={"content-type": "multipart/form-data"})
    check_problem(reply, 400, "malformed_request")


def test_a_form_of_a_thousand_parts_is_refused(edge, form) -> None:
    parts = {f"p{i}": b"x" for i in range(1000)}
    check_problem(edge.http.post("/v1/score", **form(b'{"items":[]}', **parts)), 413, "too_many_items")


@pytest.mark.parametrize("path", [*POSTS, *GETS])
def test_a_route_refuses_other_methods_and_says_which_it_takes(edge, path: str) -> None:
    allowed = {"POST"} if path in POSTS else {"GET", "HEAD"}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - allowed:
        reply = edge.http.request(method, path)
        check_problem(reply, 405, "method_not_allowed")
        assert set(reply.headers["allow"].split(", ")) == allowed | {"OPTIONS"}


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1",
        "/v1/",
        "/v1/score/",
        "/V1/score",
        "/v1/score/x",
        "//v1/score",
        "/v1/%73core/",
        "/docs/",
        "/redoc",
    ],
)
def test_there_are_no_other_routes(edge, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        check_problem(edge.http.request(method, edge.url + path), 404, "not_found")
    edge.notebook.wait_for(("unmatched", "rest", "404"))


@pytest.mark.parametrize("path", ["/../etc/passwd", "/playground/../settings.py", "/%2e%2e/settings.py", "/docs.html"])
def test_files_that_are_no_pages_cannot_be_reached(edge, path: str) -> None:
    check_problem(edge.http.get(edge.url + path), 404, "not_found")


WHOLE = [kind for kind in error_classes() if kind.code != "internal"]


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.code)
def test_what_the_service_raises_becomes_its_problem(edge, kind) -> None:
    reply = edge.post("/v1/score", {"items": [{"text": f"raise {kind.code}"}]})
    problem = check_problem(reply, kind.status, kind.code)
    assert "secret" not in reply.text
    if kind.status in (429, 503):
        assert (reply.headers["retry-after"], problem["retry_after_ms"]) == ("2", 1200)
    assert (reply.headers.get("www-authenticate") == "Bearer") == (kind.status == 401)


@pytest.mark.parametrize("path", POSTS)
def test_a_bug_is_a_problem_that_says_nothing_of_it(edge, path: str) -> None:
    documents = {
        "/v1/rank": {"image": B64, "texts": ["crash"]},
        "/v1/embed": {"texts": ["crash"]},
    }
    items = {"items": [{"text": "crash"}], "policy": {"all": [{"scorer": "sum", "min": 0}]}}
    document = documents.get(path, items if path == "/v1/filter" else {"items": items["items"]})
    reply = edge.post(path, document)
    check_problem(reply, 500, "internal")
    assert "secret" not in reply.text
    assert "ZeroDivision" not in reply.text
    edge.notebook.wait_for((path, "rest", "500"))
    assert edge.notebook.rejections == []
    assert edge.http.get("/livez").status_code == 200
