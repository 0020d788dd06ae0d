"""Takes a node with the encoders away from the application, under load, adds another, and prints what callers got.

A process of its own, since Ray belongs to a whole process: `node_lost.py CACHE_DIR PORT GRPC_PORT`.
"""

import json
import sys
from contextlib import suppress
from typing import Any

import ray
from ray import serve as ray_serve
from ray.cluster_utils import Cluster

from loadtests.service.checked_load import CheckedLoad
from plumbline_serve.app import APP_NAME, build, grpc_options
from plumbline_serve.settings import Settings

STORE: dict[str, Any] = {"object_store_memory": 150 * 2**20}
SCORERS: dict[str, dict[str, Any]] = {"clipscore": {}, "qualiclip": {}}
NUM_BEFORE, NUM_AFTER = 40, 60


def main(cache_dir: str, port: int, grpc_port: int) -> None:
    """A head without CPUs to spare and a node that has some: the encoders can only go there, gateways to either."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **STORE})
    second = nodes.add_node(num_cpus=1, **STORE)
    ray.init(address=nodes.address, log_to_driver=False)
    layout = {"layout": "split", "num_gateways": 2, "num_encoders": 1, "encoder_cpus": 1}
    settings = Settings(cache_dir=cache_dir, grpc_port=grpc_port, scorers=SCORERS, replicas=layout)
    with suppress(TimeoutError):  # Ray gives its proxies a minute; on a busy machine they come up later
        ray_serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            grpc_options=grpc_options(settings),
        )
    ray_serve.run(build(settings), name=APP_NAME, route_prefix="/")
    url = f"http://127.0.0.1:{port}"
    with CheckedLoad(url, f"127.0.0.1:{grpc_port}", num_callers=2) as load:
        load.wait_for(NUM_BEFORE)
        nodes.remove_node(second, allow_graceful=False)  # SIGKILL of every process of it
        nodes.add_node(num_cpus=1, **STORE)
        load.wait_for(NUM_AFTER)
    counts = load.counts
    found = {"wrong": counts.wrong, "failed": counts.failed, "lost": counts.lost_in_full, "retried": counts.retried}
    print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads
    ray_serve.shutdown()
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
