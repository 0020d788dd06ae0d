"""What Ray is given to start with, and the launcher that edits what Ray has HAProxy do."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from plumbline_serve.cli.doctor import examine
from plumbline_serve.ports import BLOCKS, free_port
from plumbline_serve.ray_environment import SINGLE_PORTS, inner_host, set_ray_environment, temp_dir
from plumbline_serve.settings import Settings

SETTINGS = Settings(host="0.0.0.0", port=free_port(), grpc_port=free_port())
BLOCK = range(BLOCKS.start, BLOCKS.start + BLOCKS.step)
CONFIG = """
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
    errorfile 503 /ray/500.http
listen stats
  bind *:{stats}
  stats enable
frontend metrics
    bind :{metrics}
frontend callers
    bind 127.0.0.1:{rest}
    default_backend none_yet
frontend grpc_callers
    bind 127.0.0.1:{grpc} proto h2
    default_backend default_grpc_backend
backend none_yet
    http-request return status 404 content-type text/plain lf-string "Path \'%[path]\' not found."
backend gateways
    server SERVE_REPLICA 127.0.0.1:20100 check
    server SERVE_PROXY_ACTOR-fallback 127.0.0.1:8500 check backup
backend default_grpc_backend
    mode http
    http-request return status 200 content-type application/grpc hdr grpc-status 5 hdr grpc-message "Not found."
"""


@pytest.fixture
def preprocessed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], "OMP_WAIT_POLICY": "ACTIVE"})
    set_ray_environment(SETTINGS, tmp_path, BLOCK)
    return dict(os.environ)


@pytest.fixture
def edited(preprocessed: dict[str, str], tmp_path: Path) -> list[str]:
    """The lines of a configuration like Ray's after the launcher has had it, which HAProxy accepts."""
    file = tmp_path / "haproxy.cfg"
    stats, metrics = (preprocessed[f"RAY_SERVE_HAPROXY_{name}_PORT"] for name in ("STATS", "METRICS"))
    text = CONFIG.format(stats=stats, metrics=metrics, rest=SETTINGS.port, grpc=SETTINGS.grpc_port)
    file.write_text(text, encoding="utf-8")
    checked = subprocess.run(
        [preprocessed["RAY_SERVE_HAPROXY_BINARY_PATH"], "-c", "-f", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    return file.read_text(encoding="utf-8").splitlines()


def test_what_the_caller_has_set_stays(preprocessed: dict[str, str]) -> None:
    assert preprocessed["OMP_WAIT_POLICY"] == "ACTIVE"
    assert preprocessed["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_haproxy_alone_listens_to_other_machines_and_its_own_pages_do_not(
    preprocessed: dict[str, str], edited: list[str]
) -> None:
    bound = [line.split()[1] for line in edited if "bind" in line]
    pages = [f"127.0.0.1:{preprocessed[f'RAY_SERVE_HAPROXY_{name}_PORT']}" for name in ("STATS", "METRICS")]
    assert bound == [*pages, f"0.0.0.0:{SETTINGS.port}", f"0.0.0.0:{SETTINGS.grpc_port}"]
    assert inner_host(SETTINGS, preprocessed) == "127.0.0.1"


def test_without_a_gateway_callers_get_the_services_own_answer(edited: list[str], tmp_path: Path) -> None:
    text = "\n".join(edited)
    assert "SERVE_REPLICA" in text
    assert "SERVE_PROXY_ACTOR" not in text
    assert "status 404" not in text
    assert "grpc-status 14" in text
    assert f"errorfile 503 {tmp_path / '503.http'}" in text
    head, _, body = (tmp_path / "503.http").read_bytes().decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "retry-after: 5\r\n" in head
    assert '"code": "not_ready"' in body


@pytest.mark.parametrize("host", ["::1", "::"])
def test_an_ipv6_host_is_written_as_haproxy_reads_it(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    set_ray_environment(SETTINGS.model_copy(update={"host": host}), tmp_path, BLOCK)
    assert f"bind [{host}]:{SETTINGS.port}" in (tmp_path / "haproxy.sed").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("folder", "chosen"),
    [
        pytest.param("/scratch/tmp", "/scratch/tmp", id="short enough"),
        pytest.param("/home/somebody/of/long/name/tmp", "/tmp", id="too long for sockets below it"),  # noqa: S108
    ],
)
def test_sockets_lie_where_their_path_is_short_enough(
    folder: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", folder)
    assert temp_dir() == chosen


def test_every_inner_port_is_of_the_services_own_block(preprocessed: dict[str, str]) -> None:
    rows = {
        protocol: range(
            *(int(preprocessed[f"RAY_SERVE_DIRECT_INGRESS_{end}_{protocol}_PORT"]) for end in ("MIN", "MAX"))
        )
        for protocol in ("HTTP", "GRPC")
    }
    singles = [int(preprocessed[name]) for name in SINGLE_PORTS]
    ports = [*singles, *rows["HTTP"], rows["HTTP"].stop, *rows["GRPC"], rows["GRPC"].stop]
    assert sorted(ports) == list(BLOCK)


def test_doctor_names_a_taken_port_that_the_environment_chose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", str(port))
        monkeypatch.setenv("COLUMNS", "200")
        assert examine(SETTINGS) == 1
    assert f"{port}: Address already in use" in capsys.readouterr().out
