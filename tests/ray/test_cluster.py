"""The same application on a cluster of two nodes: gateways on one, encoders on the other."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline_serve.ray_token import own_token

pytestmark = pytest.mark.ray
DRIVER = Path(__file__).with_name("two_nodes.py")


ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # replicas call each other over gRPC, whose messages have 4 MiB unless told
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_worker_niceness": "0",
}


def test_a_replica_on_the_second_node_answers(engine_cache, unused_port, png_of, large_png, tmp_path):
    """Also what is larger than a message between replicas; and while it is away, callers are told at once."""
    image = {"b64": base64.b64encode(png_of(1)).decode()}
    large = {"b64": base64.b64encode(large_png).decode()}
    bodies = [
        {"items": [{"image": image, "text": "a red circle"}]},
        {"items": [{"image": large}, *({"image": image, "text": f"circle {i}"} for i in range(40))]},
        {"items": [{"image": image, "text": "another circle"}]},
    ]
    ran = subprocess.run(
        [sys.executable, str(DRIVER), engine_cache, str(unused_port()), str(unused_port())],
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT | own_token(tmp_path),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))  # Ray prints as well
    assert found["status"] == 200
    assert found["answer"]["results"][0]["status"] == "ok"
    assert found["request_ids"] == [found["answer"]["request_id"]]
    assert "plumbline_batch_size_count" in found["metrics"]
    assert found["large"]["status"] == 200
    assert {result["status"] for result in found["large"]["answer"]["results"]} == {"ok"}
    assert found["away"] == {"readyz": 503, "status": 503, "models": 200, "then": 200}
    assert found["again"] == 200
    assert found["encoder_nodes"] == [found["second_node"]]
