"""When a service cannot go on, and when it can: HAProxy's view of its gateways, and theirs of themselves."""

import http.server
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plumbline_serve.launch.supervisor import Stage
from plumbline_serve.launch.watch import ServiceWatch, answers_ready, behind_haproxy

HEAD = "# pxname,svname,status,addr,\n"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def gateway(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"127.0.0.1:{server.server_port}"


@contextmanager
def haproxy(folder: Path, *rows: str) -> Iterator[Path]:
    """An admin socket that answers as HAProxy does."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline() == b"show stat\n"
            self.wfile.write((HEAD + "".join(f"{row},\n" for row in rows)).encode())

    (folder / "node").mkdir()
    with serving(socketserver.UnixStreamServer(str(folder / "node" / "s"), Handler)):
        yield folder / "s"


@pytest.mark.parametrize(
    ("ready", "http", "grpc", "why"),
    [
        pytest.param(200, "UP", "UP", None, id="answered"),
        pytest.param(200, "UP 1/3", "UP", None, id="answered, and one check failed"),
        pytest.param(200, "DOWN", "UP", "over http", id="no gateway for REST"),
        pytest.param(200, "UP", "DOWN", "over grpc", id="no gateway for gRPC"),
        pytest.param(503, "UP", "UP", "/readyz", id="a gateway without encoders"),
    ],
)
def test_callers_are_answered_where_haproxy_has_a_gateway_that_is_ready(
    ready: int, http: str, grpc: str, why: str | None, tmp_path: Path
) -> None:
    with gateway(ready) as address:
        rows = [
            f"http-plumbline,SERVE_REPLICA--a,{http},{address}",
            "http-plumbline,SERVE_REPLICA--b,DOWN,127.0.0.1:9",
            f"http-plumbline,BACKEND,{http},",
            f"grpc-plumbline,SERVE_REPLICA--a,{grpc},{address}",
        ]
        with haproxy(tmp_path, *rows) as admin:
            found = behind_haproxy(admin)
    assert (found is None) is (why is None)
    assert why is None or why in (found or "")


def test_without_haproxy_callers_are_not_answered(tmp_path: Path) -> None:
    assert "HAProxy does not answer" in (behind_haproxy(tmp_path / "s") or "")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "s").touch()
    assert "HAProxy does not answer" in (behind_haproxy(tmp_path / "s") or "")


def test_what_is_not_there_is_not_ready() -> None:
    assert not answers_ready("127.0.0.1:9")


def test_a_service_that_is_answered_or_has_not_begun_is_left_alone() -> None:
    probed = threading.Event()

    def probe() -> None:
        probed.set()

    watch = ServiceWatch(probe)
    assert watch.look(Stage.BEGUN) is None
    assert watch.look(Stage.STARTED) is None
    assert not probed.is_set()
    assert watch.look(Stage.READY) is None
    assert probed.wait(60)
    assert watch.look(Stage.READY) is None
