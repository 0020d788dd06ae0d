"""The Ray node of a service that has a machine to itself."""

import subprocess  # nosec B404  # only how it writes command lines
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray._raylet
from ray._private import node as ray_node
from ray._private import services

from plumbline_serve.deployments import lean_agent, lean_worker

_CORE: Any = ray._raylet  # noqa: SLF001 - Ray has no option for what follows
NOT_IN_USE = -1
"""Where a port is to be told, as Ray's own agents have it where they are installed in part."""
AGENT_PORTS = (
    _CORE.METRICS_AGENT_PORT_NAME,
    _CORE.METRICS_EXPORT_PORT_NAME,
    _CORE.DASHBOARD_AGENT_LISTEN_PORT_NAME,
    _CORE.RUNTIME_ENV_AGENT_PORT_NAME,
)


class LeanNode(ray_node.Node):
    """Ray's node without the four processes that nothing here asks anything; its workers start by `lean_worker`.

    Its dashboard runs even without pages, and the node is not started before that has come up; the monitor would ask a
    cloud for more machines. The node is not started before its two agents have come up either: one answers the
    dashboard and gives Ray's own metrics, one prepares environments that no worker here asks for. In their places
    are processes that do nothing.

    Args:
        num_workers: That it starts by itself, and at most at once; of its own choice both are its number of CPUs.
        ray_params: What Ray starts a node with.
        options: How.
    """

    def __init__(self, num_workers: int, ray_params: Any, **options: Any) -> None:
        self._num_workers = num_workers
        ray_params.update(setup_worker_path=lean_worker.__file__)
        super().__init__(ray_params, **options)

    def start_monitor(self) -> None:
        """Called by Ray."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """Called by Ray."""
        del include_dashboard, raise_on_failure
        self._webui_url = ""

    def start_raylet(self, *arguments: Any, **options: Any) -> None:
        """Called by Ray."""
        for name in AGENT_PORTS:
            _CORE.persist_port(self._session_dir, self._node_id, name, NOT_IN_USE)
        agent = subprocess.list2cmdline([sys.executable, "-I", "-S", lean_agent.__file__])
        changed = {
            "--dashboard_agent_command": agent,
            "--runtime_env_agent_command": agent,
            "--num_prestart_python_workers": str(self._num_workers),
            "--maximum_startup_concurrency": str(self._num_workers),
        }
        usual = services.start_ray_process
        services.start_ray_process = lambda command, *rest, **how: usual(with_options(command, changed), *rest, **how)
        try:
            super().start_raylet(*arguments, **options)
        finally:
            services.start_ray_process = usual


def with_options(command: Sequence[str], changed: Mapping[str, str]) -> list[str]:
    """A command whose options have other values.

    Args:
        command: Its words, options as `--name=value`.
        changed: Values by `--name`.

    Raises:
        RuntimeError: It lacks such an option.
    """
    given = {each.partition("=")[0] for each in command}
    if missing := changed.keys() - given:
        raise RuntimeError(f"Ray starts its node without {', '.join(sorted(missing))}: is it another version?")
    named = ((each, each.partition("=")[0]) for each in command)
    return [f"{name}={changed[name]}" if name in changed else each for each, name in named]


@contextmanager
def lean_nodes(num_workers: int) -> Iterator[None]:
    """While this lasts `ray.init` starts such a node: it has no option for it.

    Args:
        num_workers: As for `LeanNode`.
    """
    usual, started = ray_node.Node, partial(LeanNode, num_workers)
    ray_node.Node = started  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        ray_node.Node = usual  # type: ignore[misc]
