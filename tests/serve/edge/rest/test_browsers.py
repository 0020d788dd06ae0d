"""What browsers are told, and whose pages may call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from plumbline_serve.edge.rest.pages import PAGES
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import AuthSettings, EdgeSettings, TlsSettings
from tests.keys import add_key

ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization",
}
SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def no_more(headers: httpx.Headers, name: str) -> list[str]:
    """All values under a name: none is sent twice."""
    return headers.get_list(name)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/v1/scorers", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/nope", 404),
        ("POST", "/v1/score", 415),
        ("PUT", "/v1/score", 405),
        ("OPTIONS", "/v1/score", 204),
    ],
)
def test_every_reply_is_safe_in_a_browser(edge, method: str, path: str, status: int) -> None:
    reply = edge.http.request(method, path)
    assert reply.status_code == status
    for name, value in SAFE.items():
        assert no_more(reply.headers, name) == [value]
    (policy,) = no_more(reply.headers, "content-security-policy")
    assert "frame-ancestors 'none'" in policy
    assert no_more(reply.headers, "cache-control") == ["no-cache" if path in PAGES else "no-store"]
    assert "strict-transport-security" not in reply.headers
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_scores_and_refusals_are_kept_by_nobody(edge) -> None:
    for body, status in (({"items": [{"text": "a"}]}, 200), ({"items": 1}, 422), ({"items": [{"text": "crash"}]}, 500)):
        reply = edge.post("/v1/score", body)
        assert (reply.status_code, reply.headers["cache-control"]) == (status, "no-store")


def test_under_tls_browsers_come_by_tls_alone(open_over: Callable[..., Any], tmp_path: Path) -> None:
    edge = open_over(Settings(tls=TlsSettings(cert=tmp_path / "cert.pem")))
    assert edge.http.get("/livez").headers["strict-transport-security"] == "max-age=31536000"


@pytest.fixture
def cross_edge(open_over: Callable[..., Any], tmp_path: Path) -> Any:
    """Open to the pages of one origin, and to a key."""
    keys = add_key(tmp_path / "keys.yaml", "a-key")
    return open_over(Settings(auth=AuthSettings(keys_file=keys), edge=EdgeSettings(cors_origins=(ORIGIN,))))


def test_a_browser_may_ask_without_a_key_before_it_calls(cross_edge) -> None:
    reply = cross_edge.http.options("/v1/score", headers=PREFLIGHT)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in reply.headers["access-control-allow-methods"]
    allowed = reply.headers["access-control-allow-headers"]
    assert {"authorization", "content-type"} <= set(allowed.split(", "))
    assert "access-control-allow-credentials" not in reply.headers
    assert reply.headers["vary"] == "origin"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", ["https://app.example.evil", "http://app.example", "https://app.example:444", "null", "*", ""], ids=repr
)
def test_pages_of_other_origins_are_told_nothing(cross_edge, origin: str) -> None:
    asked = cross_edge.http.options("/v1/score", headers=PREFLIGHT | {"origin": origin})
    assert asked.status_code == 401
    called = cross_edge.http.get("/v1/scorers", headers={"origin": origin, "authorization": "Bearer a-key"})
    assert called.status_code == 200
    for reply in (asked, called):
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert reply.headers["vary"] == "origin"


def test_the_page_can_read_replies_and_refusals(cross_edge) -> None:
    for key, status in (("a-key", 200), ("other", 401)):
        headers = {"origin": ORIGIN, "authorization": f"Bearer {key}"}
        reply = cross_edge.http.get("/v1/scorers", headers=headers)
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "retry-after", "ratelimit", "ratelimit-policy"} <= set(exposed)


@pytest.mark.parametrize(
    "origin", ["*", "app.example", "https://app.example/", "https://App.example", "https://u@a", ""]
)
def test_what_is_no_origin_is_refused_in_the_settings(origin: str) -> None:
    with pytest.raises(ValidationError, match="not an origin"):
        EdgeSettings(cors_origins=(origin,))


def test_without_pages_there_is_scoring_alone(open_over: Callable[..., Any]) -> None:
    edge = open_over(Settings(edge=EdgeSettings(pages=False)))
    for path in ("/openapi.json", *PAGES):
        assert edge.http.get(path).status_code == 404
    for path in ("/livez", "/readyz", "/metrics", "/v1/scorers"):
        assert edge.http.get(path).status_code == 200


def test_metrics_can_be_switched_off(open_over: Callable[..., Any]) -> None:
    edge = open_over(Settings(edge=EdgeSettings(metrics=False)))
    assert edge.http.get("/metrics").status_code == 404
    assert "/metrics" not in edge.http.get("/openapi.json").json()["paths"]
