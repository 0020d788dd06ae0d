"""`plumbline serve`: the service in the foreground."""

import ipaddress
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from plumbline_models.core.errors import ConfigError, SetupError
from plumbline_models.core.weights import Seek
from plumbline_serve.assembly import make_scorers
from plumbline_serve.cli.weights import describe, find_weights
from plumbline_serve.edge.access import read_keys
from plumbline_serve.ports import held_block, held_ports, obstacle
from plumbline_serve.ray_environment import inner_host, listening, set_ray_environment, temp_dir
from plumbline_serve.ray_token import check_own_start
from plumbline_serve.settings import Settings
from plumbline_serve.supervisor import supervise

FAILED = 1
SEEK: tuple[Seek, ...] = ("anywhere", "fetch")
STOP_TIMEOUT_S = 90.0  # besides draining: Ray takes its time on a busy machine


def serve(settings: Settings) -> int:
    """Run until a signal stops it.

    Returns:
        0 after a clean stop, 1 if the service could not be started or ended by itself.

    Raises:
        SetupError: The configuration cannot work; nothing was started.
    """
    _check_ports(settings)
    if settings.auth.keys_file is not None:
        read_keys(settings.auth.keys_file)  # the gateways read it too, where nobody would see what is wrong with it
    check_own_start(os.environ, is_required=settings.auth.require_ray_token)
    _check_weights(settings)
    scorers = list(make_scorers(settings))
    _warn_if_open(settings)
    own = frozenset({settings.port, settings.grpc_port})
    with (
        held_ports(settings.host, *own),
        held_block(avoid=own) as block,
        tempfile.TemporaryDirectory(prefix="plumbline-", dir=temp_dir(), ignore_cleanup_errors=True) as folder,
    ):
        return supervise(
            lambda: _run(settings, scorers, Path(folder), block),
            stop_timeout_s=settings.replicas.drain_timeout_s + STOP_TIMEOUT_S,
        )


def _run(settings: Settings, scorers: Iterable[str], folder: Path, block: range) -> int:
    chosen = set_ray_environment(settings, folder, block)
    from plumbline_serve import launch  # noqa: PLC0415 - Ray reads the environment when it is imported

    print(f"Starting with {', '.join(scorers)} …", file=sys.stderr)
    print(
        f"Beside {settings.port} and {settings.grpc_port}, the ports {block[0]} to {block[-1]} (gateways, HAProxy's "
        "pages) and Ray's own, which ask for its token, are for this machine alone.",
        file=sys.stderr,
    )
    try:
        with launch.running(settings, inner_host(settings, chosen)) as wait_until_told:
            shown = launch.shown_host(settings)
            print(f"Ready: REST http://{shown}:{settings.port}  gRPC {shown}:{settings.grpc_port}", flush=True)
            wait_until_told()
            print("Draining …", file=sys.stderr)
    except RuntimeError as error:
        print(f"The service could not be started: {error}", file=sys.stderr)
        return FAILED
    return 0


def _check_weights(settings: Settings) -> None:
    """Have all weights on this machine before Ray starts; faults that show without fetching are reported first."""
    for seek in SEEK:
        faults = [found.fault for found in find_weights(settings, seek) if found.fault is not None]
        if faults:
            raise SetupError("\n".join(dict.fromkeys(describe(fault, settings) for fault in faults)))


def _check_ports(settings: Settings) -> None:
    if settings.port == settings.grpc_port:
        raise ConfigError(f"REST and gRPC cannot share port {settings.port}.", port=settings.port)
    for _, host, port, where in listening(settings):
        if reason := obstacle(host, port):
            raise ConfigError(f"Nothing can listen on {host}:{port} ({reason}); see --host and {where}.")


def _warn_if_open(settings: Settings) -> None:
    if settings.auth.keys_file is None and not _is_loopback(settings.host):
        print(
            f"Open to everybody who can reach {settings.host}:{settings.port} and :{settings.grpc_port}: "
            "set auth.keys_file to require keys, or --host 127.0.0.1 to stay on this machine.",
            file=sys.stderr,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
