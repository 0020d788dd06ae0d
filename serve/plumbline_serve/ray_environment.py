"""What Ray must find in its environment before it is imported, on one machine.

Measured on two cores (docs/serving.md): Serve's Python proxy costs 3 to 8 ms of CPU a request, HAProxy with the
throughput mode about half a millisecond. Whatever the caller has set already stays.
"""

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

MAX_MESSAGE_BYTES = 512 * 2**20  # one hop carries all inputs of a request: 256 fitted images of 336 px are 87 MB


def prepare_environment(*, max_request_bytes: int) -> Mapping[str, str]:
    """Set Ray's variables for a service of its own on this machine; call before anything imports `ray`.

    Returns:
        What was set; child processes inherit it.
    """
    wanted = _throughput(max_request_bytes) | _haproxy(Path(tempfile.mkdtemp(prefix="plumbline-")))
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(chosen)
    return chosen


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_taken(host: str, port: int) -> bool:
    """Whether something else already listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _throughput(max_request_bytes: int) -> dict[str, str]:
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE_BYTES),
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(max_request_bytes),
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _haproxy(folder: Path) -> dict[str, str]:
    """HAProxy in front, with files and ports of its own so that several services can share a machine."""
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1" if (os.cpu_count() or 1) <= 2 else "4",  # noqa: PLR2004 - a small machine
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        # The gateway drains itself before Ray is told to stop, so Ray need not wait for stragglers.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }
