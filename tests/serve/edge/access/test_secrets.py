"""What callers and operators keep secret is in no log, no metric, no reply and no `repr` of a running edge."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import SecretStr

from plumbline_serve.edge.access import Access
from plumbline_serve.machine.ports import free_port
from plumbline_serve.metrics import Instruments, exposition
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import AuthSettings
from plumbline_wire.v1 import scoring_pb2 as pb
from tests.keys import add_key

CANARY = "canary-"
KEY, WRONG_KEY, QUERY, TEXT, PASSWORD = (f"{CANARY}{word}-7391" for word in ("key", "wrong", "query", "text", "word"))
NOT_OURS = ("httpx", "httpcore", "uvicorn.access")
"""The client's, and a log of addresses that Ray switches off."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    keys = add_key(tmp_path / "keys.yaml", KEY, name="someone", rate="100/hour", concurrency=4)
    url = SecretStr(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")  # where nobody answers
    return Settings(auth=AuthSettings(keys_file=keys, limits_url=url))


@pytest.fixture
def edge(settings: Settings, open_over: Any) -> Any:
    return open_over(settings)


def bodies() -> Iterator[Any]:
    image = {"b64": base64.b64encode(b"no image").decode()}
    for text in (TEXT, "crash", "raise overloaded"):
        yield {"items": [{"image": image, "text": text}, {"image": "nowhere", "text": TEXT}]}
    yield {"items": [{"text": TEXT, "more": TEXT}]}
    yield {"items": [{"text": [TEXT]}]}
    yield {"items": [{"text": TEXT}], "scorers": [1]}


def replies(edge: Any) -> Iterator[httpx.Response]:
    for key in (f"Bearer {KEY}", f"Bearer {WRONG_KEY}", WRONG_KEY, f"Basic {WRONG_KEY}", f"Bearer {KEY}\xff"):
        headers = [(b"authorization", key.encode("latin-1"))]
        for body in bodies():
            yield edge.http.post("/v1/score", json=body, headers=headers, params={"key": QUERY})
        malformed = f'{{"items": "{TEXT}'
        yield edge.http.post("/v1/score", content=malformed, headers=[*headers, (b"content-type", b"application/json")])
        for path in ("/v1/scorers", "/metrics", f"/nope/{QUERY}"):
            yield edge.http.get(path, headers=headers, params={"api_key": QUERY})


def statuses(edge: Any) -> Iterator[str]:
    item = pb.Item(image=pb.ImageSource(data=b"no image"), text=TEXT)
    for key in (f"Bearer {KEY}", f"Bearer {WRONG_KEY}", WRONG_KEY):
        for text in (TEXT, "crash"):
            request = pb.ScoreRequest(items=[item, pb.Item(text=text)], scorers=["nothing"])
            try:
                edge.rpc.Score(request, metadata=[("authorization", key)])
            except grpc.RpcError as error:
                yield f"{error!r} {error.trailing_metadata()}"


def test_no_secret_is_in_a_log_or_a_refusal(edge: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answered = list(replies(edge))
        refused = list(statuses(edge))
    assert {reply.status_code for reply in answered} >= {200, 401, 403, 422, 400, 500, 429}
    for reply in answered:
        scored = reply.status_code == 200 and reply.request.url.path == "/v1/score"
        shown = f"{dict(reply.headers)} {reply.text}"
        assert CANARY not in (shown.replace(TEXT, "") if scored else shown)  # words of a caption come back with it
    assert refused
    assert CANARY not in str(refused)
    service_s = [record for record in caplog.records if not record.name.startswith(NOT_OURS)]
    assert "plumbline_serve.edge.access.quotas" in {record.name for record in service_s}
    for record in service_s:
        assert CANARY not in f"{record.getMessage()} {record.exc_text} {record.args!r}"


def test_no_secret_is_in_a_metric(settings: Settings, open_over: Any) -> None:
    instruments = Instruments()
    edge = open_over(settings)
    list(replies(edge))
    for route, wire, code in edge.notebook.requests:
        instruments.request(route, wire, code, 0.1)
    for reason in edge.notebook.rejections:
        instruments.rejection(reason)
    assert CANARY not in exposition([instruments.snapshot()]).decode()


def test_no_secret_is_in_a_repr(settings: Settings) -> None:
    access = Access.open(settings.auth, Instruments())
    grant = access.check(f"Bearer {KEY}", "score")
    for shown in (settings, settings.auth, access, grant, vars(grant), vars(access), settings.model_dump()):
        assert CANARY not in repr(shown)
    assert CANARY not in settings.model_dump_json()
    access.close()
