"""`plumbline serve`: the service in the foreground."""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from plumbline_models.core.errors import ConfigError, SetupError
from plumbline_models.core.weights import Seek
from plumbline_serve.assembly import make_scorers
from plumbline_serve.cli.weights import find_weights, told
from plumbline_serve.ray_environment import obstacle, prepare_environment, temp_dir
from plumbline_serve.settings import Settings

FAILED = 1
SEEK: tuple[Seek, ...] = ("anywhere", "fetch")


def serve(settings: Settings) -> int:
    """Run until told to stop.

    Returns:
        0 after a clean stop, 1 if the service could not be started.

    Raises:
        SetupError: The configuration cannot work; nothing was started.
    """
    _check_ports(settings)
    _check_weights(settings)
    scorers = make_scorers(settings)
    with tempfile.TemporaryDirectory(prefix="plumbline-", dir=temp_dir(), ignore_cleanup_errors=True) as folder:
        prepare_environment(Path(folder), max_message_bytes=settings.limits.max_form_bytes)
        return _run(settings, scorers)


def _run(settings: Settings, scorers: Iterable[str]) -> int:
    from plumbline_serve import launch  # noqa: PLC0415 - Ray reads the environment when it is imported

    print(f"Starting with {', '.join(scorers)} …", file=sys.stderr)
    try:
        with launch.running(settings) as told_to_stop:
            shown = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared only
            print(f"Ready: REST http://{shown}:{settings.port}  gRPC {shown}:{settings.grpc_port}", flush=True)
            told_to_stop.wait()
            print("Draining …", file=sys.stderr)
    except RuntimeError as error:
        print(f"The service could not be started: {error}", file=sys.stderr)
        return FAILED
    return 0


def _check_weights(settings: Settings) -> None:
    """Have all weights on this machine before Ray starts; what can be told without fetching is told first."""
    for seek in SEEK:
        faults = [found.fault for found in find_weights(settings, seek) if found.fault is not None]
        if faults:
            raise SetupError("\n".join(dict.fromkeys(told(fault, settings) for fault in faults)))


def _check_ports(settings: Settings) -> None:
    if settings.port == settings.grpc_port:
        raise ConfigError(f"REST and gRPC cannot share port {settings.port}.", port=settings.port)
    for port, option in ((settings.port, "--port"), (settings.grpc_port, "--grpc-port")):
        if reason := obstacle(settings.host, port):
            raise ConfigError(f"Nothing can listen on {settings.host}:{port} ({reason}); see --host and {option}.")
