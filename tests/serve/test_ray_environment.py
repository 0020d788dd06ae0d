"""What Ray is given to start with, and the launcher that keeps HAProxy's own pages on this machine."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from plumbline_serve.ray_environment import (
    INGRESS_PORTS,
    free_port,
    free_ports,
    obstacle,
    prepare_environment,
    temp_dir,
)

CONFIG = """
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
listen stats
  bind *:{STATS_PORT}
  stats enable
frontend metrics
    bind :{METRICS_PORT}
frontend callers
    bind 0.0.0.0:{other}
"""


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], "OMP_WAIT_POLICY": "ACTIVE"})
    prepare_environment(tmp_path, max_message_bytes=1000)
    return dict(os.environ)


def test_what_the_caller_has_set_stays(prepared: dict[str, str]) -> None:
    assert prepared["OMP_WAIT_POLICY"] == "ACTIVE"
    assert prepared["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_haproxy_binds_its_own_pages_to_the_loopback_interface(prepared: dict[str, str], tmp_path: Path) -> None:
    ports = {name: prepared[f"RAY_SERVE_HAPROXY_{name}"] for name in ("STATS_PORT", "METRICS_PORT")}
    other = str(free_port())
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIG.format(**ports, other=other), encoding="utf-8")
    checked = subprocess.run(
        [prepared["RAY_SERVE_HAPROXY_BINARY_PATH"], "-c", "-f", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    bound = [line.split()[1] for line in file.read_text(encoding="utf-8").splitlines() if "bind" in line]
    assert bound == [f"127.0.0.1:{ports['STATS_PORT']}", f"127.0.0.1:{ports['METRICS_PORT']}", f"0.0.0.0:{other}"]


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


def test_a_taken_port_is_told_from_a_host_that_is_not_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in (obstacle("127.0.0.1", port) or "")
    assert obstacle("127.0.0.1", port) is None
    assert "assign" in (obstacle("203.0.113.7", port) or "")


def test_ports_in_a_row_are_free_and_no_system_gives_them_to_others() -> None:
    row = free_ports(4000)
    assert set(row) <= set(INGRESS_PORTS)
    with socket.create_server(("127.0.0.1", row[5])):
        assert row[5] not in free_ports(4000)


def test_replicas_of_two_services_listen_on_different_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prepared: dict[str, str]
) -> None:
    first = _ingress_rows(prepared)
    assert not set(first["HTTP"]) & set(first["GRPC"])
    taken = [socket.create_server(("127.0.0.1", rows[0])) for rows in first.values()]
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    prepare_environment(tmp_path, max_message_bytes=1000)
    second = _ingress_rows(dict(os.environ))
    for one in taken:
        one.close()
    assert not {*first["HTTP"], *first["GRPC"]} & {*second["HTTP"], *second["GRPC"]}


def _ingress_rows(environment: dict[str, str]) -> dict[str, range]:
    ends = {
        protocol: [int(environment[f"RAY_SERVE_DIRECT_INGRESS_{end}_{protocol}_PORT"]) for end in ("MIN", "MAX")]
        for protocol in ("HTTP", "GRPC")
    }
    return {protocol: range(low, high + 1) for protocol, (low, high) in ends.items()}
