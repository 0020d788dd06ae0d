"""The same application on a cluster of two nodes: gateways on one, encoders on the other."""

import base64
from collections.abc import Iterator

import httpx
import pytest
import ray
from ray import serve as ray_serve
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from plumbline_serve.app import APP_NAME, build, grpc_options
from plumbline_serve.settings import Settings

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),  # Ray's own warnings, in its driver process, are not ours to fix
]


@pytest.fixture
def second_node(monkeypatch) -> Iterator[str]:
    """A head without CPUs to spare and a node that has some, each with a raylet of its own; the node's id."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    store = {"object_store_memory": 150 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, **store})
    second = nodes.add_node(num_cpus=2, **store)
    ray.init(address=nodes.address, log_to_driver=False)
    yield second.node_id
    ray_serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


def test_a_replica_on_the_second_node_answers(second_node, tmp_path, unused_port, png_of):
    port = unused_port()
    settings = Settings(cache_dir=tmp_path, replicas={"layout": "split", "num_encoders": 1, "encoder_cpus": 1})
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": port},
        grpc_options=grpc_options(unused_port()),
    )
    ray_serve.run(build(settings), name=APP_NAME, route_prefix="/")
    body = {"items": [{"image": {"b64": base64.b64encode(png_of(1)).decode()}, "text": "a red circle"}]}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/score", json=body, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["status"] == "ok"
    assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
    assert "plumbline_batch_size_count" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    encoders = [actor for actor in list_actors(filters=[("state", "=", "ALIVE")]) if "EncoderReplica" in actor.name]
    assert [actor.node_id for actor in encoders] == [second_node]
