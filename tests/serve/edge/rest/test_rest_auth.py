import pytest

OPEN = ["/livez", "/readyz", "/", "/docs", "/openapi.json", "/playground.js", "/swagger-ui.css"]
GUARDED = ["/v1/scorers", "/v1/models", "/metrics", "/nope"]
KEY = {"authorization": "Bearer first-key"}


@pytest.mark.parametrize("path", OPEN)
def test_probes_pages_and_the_schema_need_no_key(guarded_edge, path: str) -> None:
    assert guarded_edge.http.get(path).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic Zmlyc3Q="}], ids=str
)
def test_everything_else_does(guarded_edge, path: str, headers: dict[str, str]) -> None:
    reply = guarded_edge.http.get(path, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "wrong" not in reply.text
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_metrics_take_a_key_for_operators(guarded_edge) -> None:
    def asked(path: str, key: str) -> tuple[int, str]:
        reply = guarded_edge.http.get(path, headers={"authorization": f"Bearer {key}"})
        return reply.status_code, "" if reply.status_code == 200 else reply.json()["code"]

    assert asked("/metrics", "first-key") == asked("/metrics", "operator-key") == (200, "")
    assert asked("/metrics", "second-key") == (403, "missing_scope")
    assert asked("/v1/scorers", "operator-key") == (403, "missing_scope")
    assert asked("/nope", "operator-key") == (404, "not_found")


def test_a_key_for_operators_has_the_configuration_read_anew(guarded_edge) -> None:
    def asked(key: str) -> int:
        return guarded_edge.http.post("/v1/admin/reload", headers={"authorization": f"Bearer {key}"}).status_code

    assert asked("second-key") == 403
    assert not guarded_edge.notebook.reloads.acquire(blocking=False)
    assert asked("operator-key") == 200
    assert guarded_edge.notebook.reloads.acquire(blocking=False)


def test_without_keys_nobody_has_the_configuration_read_anew(edge) -> None:
    reply = edge.http.post("/v1/admin/reload")
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert not edge.notebook.reloads.acquire(blocking=False)


def test_no_work_is_done_for_a_key_that_is_not_for_scoring(guarded_edge) -> None:
    guarded_edge.service.received.clear()
    operator = {"authorization": "Bearer operator-key"}
    reply = guarded_edge.post("/v1/score", {"items": [{"text": "a"}]}, headers=operator)
    assert (reply.status_code, reply.json()["code"]) == (403, "missing_scope")
    assert guarded_edge.service.received == []


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_listed_key_opens(guarded_edge, key: str) -> None:
    assert guarded_edge.http.get("/v1/scorers", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_no_work_is_done_for_a_caller_without_a_key(guarded_edge) -> None:
    guarded_edge.service.received.clear()
    assert guarded_edge.post("/v1/score", {"items": [{"text": "a"}]}).status_code == 401
    assert guarded_edge.service.received == []
    assert guarded_edge.post("/v1/score", {"items": [{"text": "a"}]}, headers=KEY).status_code == 200


def test_a_route_that_is_not_there_is_told_only_to_those_who_may_know(guarded_edge) -> None:
    assert guarded_edge.http.get("/nope", headers=KEY).status_code == 404


def test_other_spellings_of_an_open_path_are_not_open(guarded_edge) -> None:
    for path in ("/livez/", "//livez", "/livez/../v1/scorers", "/LIVEZ"):
        assert guarded_edge.http.get(guarded_edge.url + path).status_code == 401
