"""`plumbline serve`: the service in the foreground."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.weights import Seek
from plumbline_serve.cli.checks import is_open, look, raise_descriptor_limit
from plumbline_serve.cli.weights import WeightsFinding, demo_warning, describe, find_weights
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.deployments.lean_worker import import_serve
from plumbline_serve.haproxy.plan import LOOPBACK
from plumbline_serve.haproxy.tls import CertificateWatch
from plumbline_serve.launch.ray_environment import (
    answering,
    haproxy_socket,
    inner_host,
    set_ray_environment,
    temp_dir,
)
from plumbline_serve.launch.supervisor import Report, supervise
from plumbline_serve.launch.watch import ServiceWatch, answers_ready, behind_haproxy
from plumbline_serve.logs import LogFormat, write_to
from plumbline_serve.machine.ports import ANY_HOST, held_block, held_ports
from plumbline_serve.settings import Settings
from plumbline_serve.settings.source import ConfigSource

log = logging.getLogger(__name__)
FAILED = 1
SEEK: tuple[Seek, ...] = ("anywhere", "fetch")
STOP_TIMEOUT_S = 60.0  # besides draining; each step of stopping has a limit of its own, and together they take less


def serve(source: ConfigSource) -> int:
    """Run until a signal stops it.

    Args:
        source: Of the settings, which are read anew when a signal says so.

    Returns:
        0 after a clean stop, 1 if the service could not be started or ended by itself.

    Raises:
        ConfigError: The configuration or the machine cannot work; nothing was started.
    """
    raise_descriptor_limit()
    settings = source.read()
    found = _check(settings)
    write_to(sys.stderr, settings.log_level, _form(settings))
    scorers = list(make_scorers(settings))
    _warn_if_open(settings)
    if (warning := demo_warning(found)) is not None:
        log.warning("%s", warning)
    own = frozenset({settings.port, settings.grpc_port})
    with (
        held_ports(settings.host, *own),
        held_block(avoid=own) as block,
        tempfile.TemporaryDirectory(prefix="plumbline-", dir=temp_dir(), ignore_cleanup_errors=True) as name,
    ):
        folder = Path(name)
        return supervise(
            lambda report: _run(settings, source, report, scorers=scorers, folder=folder, block=block),
            ServiceWatch(_probe(settings, haproxy_socket(folder))),
            stop_timeout_s=settings.replicas.drain_timeout_s + STOP_TIMEOUT_S,
        )


def _probe(settings: Settings, haproxy: Path | None) -> Callable[[], str | None]:
    """What finds out whether callers are answered."""
    if haproxy is not None:
        return lambda: behind_haproxy(haproxy)
    address = f"{LOOPBACK if settings.host == ANY_HOST else settings.host}:{settings.port}"
    return lambda: None if answers_ready(address) else f"nothing that is ready answers on {address}"


def _run(
    settings: Settings, source: ConfigSource, report: Report, *, scorers: Iterable[str], folder: Path, block: range
) -> int:
    out = _stdout_alone()
    chosen = set_ray_environment(settings, folder, block)
    import_serve()
    from plumbline_serve.launch import run  # noqa: PLC0415 - Ray reads the environment when it is imported

    log.info("Starting with %s …", ", ".join(scorers))
    log.info(
        "Beside %d and %d, the ports %d to %d (gateways, HAProxy's pages) and Ray's own, which ask for its token, are "
        "for this machine alone.",
        *(settings.port, settings.grpc_port, block[0], block[-1]),
    )
    try:
        fronts = answering(settings, folder)
        place = run.Place(inner_host(settings, chosen), fronts, _form(settings))
        with run.running(settings, source, place, report) as wait_until_told:
            if (admin := haproxy_socket(folder)) is not None:
                CertificateWatch(settings.tls, folder, admin).start()
            print(_ready(settings, run.shown_host(settings)), file=out, flush=True)
            wait_until_told()
            log.info("Draining …")
    except RuntimeError as error:
        log.error("The service could not be started: %s", error)
        return FAILED
    return 0


def _stdout_alone() -> TextIO | None:
    """Standard output for the ready line; what else writes to its descriptor, as Ray's core does, goes to stderr."""
    own = sys.stdout
    if own is None or sys.stderr is None:  # how Python shows that it was started with one closed
        return own
    own.flush()
    kept = os.fdopen(os.dup(own.fileno()), "w", encoding=own.encoding, errors=own.errors)
    os.dup2(sys.stderr.fileno(), own.fileno())
    return kept


def _ready(settings: Settings, host: str) -> str:
    """The line that says where callers are answered."""
    rest = f"{'https' if settings.tls.cert else 'http'}://{host}:{settings.port}"
    pages = f"  playground {rest}/  docs {rest}/docs" if settings.edge.pages else ""
    return f"Ready: REST {rest}  gRPC {host}:{settings.grpc_port}{pages}"


def _form(settings: Settings) -> LogFormat:
    """Of the log's lines."""
    if settings.log_format != "auto":
        return settings.log_format
    return "text" if sys.stderr is not None and sys.stderr.isatty() else "json"


def _check(settings: Settings) -> list[WeightsFinding]:
    """Look at everything before Ray starts, and have all weights on this machine.

    Returns:
        The weights.

    Raises:
        ConfigError: With all faults, those that show without fetching first.
    """
    broken = [finding for finding in look(settings) if finding.is_needed and not finding.is_fine]
    faults = [f"{finding.what}: {finding.found} {finding.advice}".strip() for finding in broken]
    weights: list[WeightsFinding] = []
    for seek in SEEK:
        weights = find_weights(settings, seek)
        faults += [describe(found.fault, settings) for found in weights if found.fault is not None]
        if faults:
            raise ConfigError("\n".join(dict.fromkeys(faults)))
    return weights


def _warn_if_open(settings: Settings) -> None:
    if is_open(settings):
        log.warning(
            "Open to everybody who can reach %s:%d and :%d: set auth.keys_file to require keys, or --host 127.0.0.1 "
            "to stay on this machine.",
            *(settings.host, settings.port, settings.grpc_port),
        )
