"""What Ray is given to start with."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from plumbline_serve.cli.doctor import examine
from plumbline_serve.launch.ray_environment import (
    LEAN_CONTROLLER,
    SINGLE_PORTS,
    inner_host,
    set_ray_environment,
    temp_dir,
)
from plumbline_serve.machine.ports import BLOCKS, free_port
from plumbline_serve.settings import Settings

SETTINGS = Settings(host="0.0.0.0", port=free_port(), grpc_port=free_port())
BLOCK = range(BLOCKS.start, BLOCKS.start + BLOCKS.step)


@pytest.fixture
def preprocessed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], "OMP_WAIT_POLICY": "ACTIVE"})
    set_ray_environment(SETTINGS, tmp_path, BLOCK)
    return dict(os.environ)


def test_what_the_caller_has_set_stays(preprocessed: dict[str, str]) -> None:
    assert preprocessed["OMP_WAIT_POLICY"] == "ACTIVE"
    assert preprocessed["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_ray_itself_listens_on_the_loopback_interface_where_haproxy_is_in_front(preprocessed: dict[str, str]) -> None:
    assert inner_host(SETTINGS, preprocessed) == "127.0.0.1"


def test_rays_proxy_is_left_out_where_our_haproxy_answers_in_its_place(
    preprocessed: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    callback = "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH"
    assert preprocessed[callback] == LEAN_CONTROLLER
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], "RAY_SERVE_HAPROXY_BINARY_PATH": sys.executable})
    (folder := tmp_path / "another").mkdir()
    assert callback not in set_ray_environment(SETTINGS, folder, BLOCK)


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
    assert f"{port} (Address already in use)" in capsys.readouterr().out
