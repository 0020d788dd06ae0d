"""The same application on a cluster of two nodes: gateways on one, encoders on the other."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
DRIVER = Path(__file__).with_name("two_nodes.py")


ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_worker_niceness": "0",
}


def test_a_replica_on_the_second_node_answers(engine_cache, unused_port, png_of):
    body = {"items": [{"image": {"b64": base64.b64encode(png_of(1)).decode()}, "text": "a red circle"}]}
    ran = subprocess.run(
        [sys.executable, str(DRIVER), engine_cache, str(unused_port()), str(unused_port())],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))  # Ray prints as well
    assert found["status"] == 200
    assert found["answer"]["results"][0]["status"] == "ok"
    assert found["request_ids"] == [found["answer"]["request_id"]]
    assert "plumbline_batch_size_count" in found["metrics"]
    assert found["encoder_nodes"] == [found["second_node"]]
