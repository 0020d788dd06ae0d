"""The Ray node of a service that has a machine to itself."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray._private import node as ray_node
from ray._private import ray_constants

from plumbline_serve.deployments import lean_worker
from plumbline_serve.haproxy.plan import LOOPBACK


class LeanNode(ray_node.Node):
    """Ray's node without the two processes that nothing here asks anything; its workers start by `lean_worker`.

    Its dashboard runs even without pages, and the node is not started before that has come up; the monitor would ask a
    cloud for more machines. Together they took a tenth of the CPU time of a warm start, and 200 MiB.

    Args:
        agent_ports: Of Ray's agents, as Ray names them.
        ray_params: What Ray starts a node with.
        options: How.
    """

    def __init__(self, agent_ports: Mapping[str, int], ray_params: Any, **options: Any) -> None:
        ray_params.update(**agent_ports, setup_worker_path=lean_worker.__file__)
        super().__init__(ray_params, **options)

    def start_monitor(self) -> None:
        """Called by Ray."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """Called by Ray, whose agent asks every second for the dashboard's address until it is told one."""
        del include_dashboard, raise_on_failure
        self._webui_url = ""
        namespace = ray_constants.KV_NAMESPACE_DASHBOARD
        nowhere = f"{LOOPBACK}:0".encode()
        store: Any = self.get_gcs_client()  # type: ignore[no-untyped-call]
        store.internal_kv_put(ray_constants.DASHBOARD_ADDRESS.encode(), nowhere, True, namespace)  # noqa: FBT003 - Ray's


@contextmanager
def lean_nodes(agent_ports: Mapping[str, int]) -> Iterator[None]:
    """While this lasts `ray.init` starts such a node: it has no option for it.

    Args:
        agent_ports: Of Ray's agents, as Ray names them.
    """
    usual, started = ray_node.Node, partial(LeanNode, agent_ports)
    ray_node.Node = started  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        ray_node.Node = usual  # type: ignore[misc]
