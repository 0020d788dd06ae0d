"""Runs the application on a cluster of two nodes on this machine, asks it, and prints what happened as JSON.

It is asked twice, and a third time while its encoder has been killed and once there is a new one.

A process of its own, since Ray belongs to a whole process: `two_nodes.py CACHE_DIR PORT GRPC_PORT < requests.json`,
a list of three requests.
"""

import json
import sys
import time
from contextlib import suppress
from typing import Any

import httpx
import ray
from ray import serve as ray_serve
from ray.cluster_utils import Cluster
from ray.util.state import list_actors
from ray.util.state.common import ActorState

from plumbline_serve.app import APP_NAME, build, grpc_options
from plumbline_serve.settings import Settings

STORE: dict[str, Any] = {"object_store_memory": 150 * 2**20}


def main(cache_dir: str, port: int, grpc_port: int) -> None:
    """A head without CPUs to spare and a node that has some: the encoders can only go there."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, **STORE})
    second = nodes.add_node(num_cpus=2, **STORE)
    ray.init(address=nodes.address, log_to_driver=False)
    settings = Settings(
        cache_dir=cache_dir, grpc_port=grpc_port, replicas={"layout": "split", "num_encoders": 1, "encoder_cpus": 1}
    )
    with suppress(TimeoutError):  # Ray gives its proxies a minute; on a busy machine they come up later
        ray_serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            grpc_options=grpc_options(settings),
        )
    ray_serve.run(build(settings), name=APP_NAME, route_prefix="/")
    url = f"http://127.0.0.1:{port}"
    small, large, new = json.load(sys.stdin)
    answer = httpx.post(f"{url}/v1/score", json=small, timeout=120)
    large_answer = httpx.post(f"{url}/v1/score", json=large, timeout=120)
    encoders = living_encoders()
    metrics = httpx.get(f"{url}/metrics", timeout=60).text
    ray.kill(ray.get_actor(str(encoders[0].name), namespace="serve"))
    away = waited_for(url, 503)
    refused = httpx.post(f"{url}/v1/score", json=new, timeout=120)
    models = httpx.get(f"{url}/v1/models", timeout=60)
    back = waited_for(url, 200)
    found = {
        "large": {"status": large_answer.status_code, "answer": large_answer.json()},
        "away": {"readyz": away, "status": refused.status_code, "models": models.status_code, "then": back},
        "again": httpx.post(f"{url}/v1/score", json=new, timeout=120).status_code,
        "status": answer.status_code,
        "answer": answer.json(),
        "request_ids": answer.headers.get_list("x-request-id"),
        "metrics": metrics,
        "encoder_nodes": [actor.node_id for actor in encoders],
        "second_node": second.node_id,
    }
    print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads
    ray_serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


def living_encoders() -> list[ActorState]:
    return [actor for actor in list_actors(filters=[("state", "=", "ALIVE")]) if "#encoders#" in str(actor.name)]


def waited_for(url: str, status: int) -> int:
    """The status of /readyz once it is that, or at the end of two minutes."""
    found = 0
    for _ in range(240):
        found = httpx.get(f"{url}/readyz", timeout=60).status_code
        if found == status:
            break
        time.sleep(0.5)
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
