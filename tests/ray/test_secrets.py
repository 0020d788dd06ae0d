"""What callers and operators keep secret is in no log, file, metric, argument or reply of the whole service."""

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from plumbline_wire.v1 import scoring_pb2 as pb
from plumbline_wire.v1 import scoring_pb2_grpc
from tests.keys import add_key

pytestmark = pytest.mark.ray
CANARY = "canary-"
KEY, WRONG_KEY, QUERY, TEXT, PASSWORD = (f"{CANARY}{word}-5280" for word in ("key", "wrong", "query", "text", "word"))
SYSLOG = 514
"""Where Ray has HAProxy send a line for each request."""


@contextlib.contextmanager
def syslog() -> Iterator[socket.socket]:
    """What a log server on this machine would be sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        try:
            listening.bind(("127.0.0.1", SYSLOG))
        except OSError as error:
            pytest.skip(f"nothing can listen on UDP port {SYSLOG} here: {error.strerror}")
        listening.settimeout(0.5)
        yield listening


def received(listening: socket.socket) -> list[str]:
    lines = []
    with contextlib.suppress(TimeoutError):
        while True:
            lines.append(listening.recv(65536).decode(errors="replace"))
    return lines


def call_with_secrets(service: Any) -> str:
    """Everything that is replied, but for words of a caption, which come back with it."""
    replies = []
    for key in (KEY, WRONG_KEY):
        with httpx.Client(base_url=service.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
            body = {"items": [{"text": TEXT, "image": {"b64": "bm8gaW1hZ2U="}}, {"text": TEXT}]}
            replies += [
                client.post("/v1/score", json=body, params={"key": QUERY}),
                client.post("/v1/score", content=f'{{"{TEXT}', headers={"content-type": "application/json"}),
                client.get("/v1/nope", params={"key": QUERY}),
                client.get("/metrics", params={"key": QUERY}),
            ]
    shown = [f"{dict(reply.headers)} {reply.text.replace(TEXT, '')}" for reply in replies]
    with grpc.insecure_channel(service.target) as channel:
        for key in (KEY, WRONG_KEY):
            try:
                request = pb.ScoreRequest(items=[pb.Item(text=TEXT)], scorers=["nothing"])
                scoring_pb2_grpc.ScoringStub(channel).Score(request, metadata=[("authorization", f"Bearer {key}")])
            except grpc.RpcError as error:
                shown.append(f"{error!r} {error.trailing_metadata()}")
    return "\n".join(shown)


def test_no_secret_is_anywhere(start, below, tmp_path: Path) -> None:
    keys = add_key(tmp_path / "keys.yaml", KEY, name="someone", scopes=("score", "admin"), rate="1000/hour")
    config = (
        "backend: torch\nscorers: {clipscore: {}}\n"
        f"auth: {{keys_file: {keys}, limits_url: 'redis://:{PASSWORD}@127.0.0.1:1/0'}}\n"
    )
    with syslog() as listening:
        service = start(config)
        replied = call_with_secrets(service)
        lines = received(listening)
    commands = below(service.process.pid)
    session = next(match[0] for line in commands.values() if (match := re.search(r"/\S*/session_[\d_-]+", line)))
    folders = [Path(session), *Path("/tmp").glob("plumbline-*")]  # noqa: S108 - the service's
    written = {service.log: service.log.read_bytes()}
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        with contextlib.suppress(FileNotFoundError):  # Ray's own come and go
            written[file] = file.read_bytes()
    assert "plumbline_limits_failures_total 1" in replied
    assert CANARY not in replied
    assert "'ratelimit': '\"items\";r=" in replied  # over REST
    assert "key='ratelimit', value='\"items\";r=" in replied  # over gRPC, through Ray and HAProxy
    assert any("POST /v1/score" in line for line in lines)
    assert CANARY not in "".join(lines)
    assert CANARY not in " ".join(commands.values())
    assert any(file.suffix == ".log" for file in written)
    assert any(file.name == "haproxy.cfg" for file in written)
    assert [file for file, content in written.items() if CANARY.encode() in content] == []
