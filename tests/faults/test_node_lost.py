"""A node of two dies with the encoders, and with gateways that Ray has put there: callers wait or are told, and are
answered once there is another.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_serve.machine.ports import free_port
from plumbline_serve.machine.ray_token import own_token
from tests.programs import program_environment

pytestmark = pytest.mark.ray
DRIVER = Path(__file__).with_name("node_lost.py")
ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "plumbline_serve.deployments.http_servers.http_middlewares",
    "RAY_worker_niceness": "0",
}


def test_no_call_is_lost_to_the_death_of_a_node(engine_cache: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(DRIVER), engine_cache, str(free_port()), str(free_port())],
        capture_output=True,
        text=True,
        env=program_environment(**ENVIRONMENT, **own_token(tmp_path)),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))  # Ray prints as well
    assert not found["wrong"]
    assert not found["failed"]
    assert not found["lost"], f"retried: {found['retried']}"
