"""Runs `plumbline batch --ray` on a cluster of two nodes of this machine, and prints where its rows were scored.

A process of its own, since Ray belongs to a whole process: `batch_on_two_nodes.py TABLE OUT`.
"""

import json
import os
import sys
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from plumbline_serve.cli.main import main as plumbline

STORE: dict[str, Any] = {"object_store_memory": 150 * 2**20}


def main(table: str, out: str) -> None:
    """A head without CPUs to spare, and two nodes on each of which one actor fits."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, **STORE})
    names = [nodes.add_node(num_cpus=1, **STORE).node_id for _ in range(2)]
    os.environ["RAY_ADDRESS"] = nodes.address
    status: Any = None
    sys.argv = ["plumbline", "batch", table, "-o", out, "--ray", "--set"]
    try:
        plumbline()
    except SystemExit as ended:
        status = ended.code
    ray.init(address=nodes.address, log_to_driver=False)
    actors = [each for each in list_actors(limit=1000) if "Scoring" in str(each.class_name)]
    scored_on = sorted({names.index(each.node_id) for each in actors if each.node_id in names})
    print(json.dumps({"status": status, "nodes": scored_on}), flush=True)  # noqa: T201 - what the test reads
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
