"""Each wire format is there only where the configuration names it, behind the same keys, and counted as ours are."""

import pickle
from collections.abc import Callable
from typing import Any, get_args

import pytest

from plumbline_serve.settings import Limits, Settings
from plumbline_serve.settings.access import EdgeSettings, Protocol

ROUTES: dict[str, list[tuple[str, str]]] = {
    "openai": [("POST", "/v1/embeddings"), ("POST", "/embeddings"), ("GET", "/v1/health/ready")],
    "rerank": [("POST", "/v1/rerank"), ("POST", "/v2/rerank"), ("POST", "/rerank")],
    "open_inference": [
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/models/sum"),
        ("GET", "/v2/models/sum/versions/1/ready"),
        ("POST", "/v2/models/sum/infer"),
    ],
    "flow_factory": [("POST", "/compute"), ("GET", "/health"), ("POST", "/compat/sum/compute")],
    "unirl": [("POST", "/score"), ("GET", "/rewards"), ("GET", "/health")],
    "flow_grpo": [("POST", "/"), ("POST", "/compat/sum"), ("POST", "/compat/sum/")],
}
OPEN = {"/v1/health/ready", "/v2/health/live", "/v2/health/ready", "/health"}


def test_every_format_is_tried_here() -> None:
    assert ROUTES.keys() == set(get_args(Protocol))


@pytest.mark.parametrize("on", [None, *ROUTES])
def test_a_format_is_there_only_where_it_is_named(open_over: Callable[..., Any], on: str | None) -> None:
    edge = open_over(Settings(edge=EdgeSettings.model_validate({"compat": [on] if on else []})), None)
    mine = set(ROUTES[on]) if on else set()
    for method, path in {route for routes in ROUTES.values() for route in routes}:
        status = edge.http.request(method, path, content=b"?").status_code
        assert (status in (404, 405)) == ((method, path) not in mine), (method, path, status)
    assert edge.http.get("/").status_code == 200


def test_keys_are_asked_for_where_they_are_for_our_own_routes(guarded: Any) -> None:
    for method, path in {route for routes in ROUTES.values() for route in routes}:
        status = guarded.http.request(method, path, content=b"?").status_code
        assert (status == 401) == (path not in OPEN), (method, path, status)
    assert guarded.http.get("/").status_code == 200
    headers = {"authorization": "Bearer the-key"}
    reply = guarded.http.post("/", content=pickle.dumps({"images": [b"abc"]}), headers=headers)
    assert pickle.loads(reply.content)["outputs"] == [98.0]  # noqa: S301 - our own reply


def test_paths_with_names_in_them_are_counted_without_them(rules: Any) -> None:
    rules.http.get("/v2/models/sum/ready")
    rules.http.get("/v2/models/nobody/versions/1")
    rules.http.post("/compat/someone/compute", content=b"?")
    rules.notebook.wait_for(
        ("/v2/models/{name}/ready", "rest", "200"),
        ("/v2/models/{name}/versions/{version}", "rest", "404"),
        ("/compat/{scorer}/compute", "rest", "200"),
    )


def test_what_is_refused_is_counted_by_its_code(rules: Any) -> None:
    rules.notebook.rejections.clear()
    body = {"model": "sum", "input": "a"}
    assert rules.post("/v1/embeddings", body).status_code == 404  # nothing of the rules embeds
    assert rules.notebook.rejections == ["unknown_scorer"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/embeddings"), ("POST", "/rerank"), ("POST", "/compute"), ("POST", "/")]
)
def test_bodies_are_bounded_as_ours_are(rules: Any, method: str, path: str) -> None:
    reply = rules.http.request(method, path, content=bytes(2**20 + 1))
    assert "request_too_large" in reply.text


def test_a_deadline_of_the_header_is_kept(rules: Any) -> None:
    headers = {"x-request-timeout-seconds": "20"}
    rules.http.post("/compute", json={"prompt": ["a"], "image": ["AAAA"]}, headers=headers)
    assert 0 < rules.service.received[0].timeout_ms <= 20_000


def test_the_default_speaks_none_of_them() -> None:
    assert Settings().edge.compat == ()
    assert Limits().max_items
