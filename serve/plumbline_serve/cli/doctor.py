"""`plumbline doctor`: what works here, what does not, and what to do about it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from rich.table import Table

from plumbline_models.backends import available_backends
from plumbline_models.core.errors import ConfigError, SetupError
from plumbline_serve.assembly import make_scorers, num_cpus
from plumbline_serve.cli.results import literally, paragraphs, show_table
from plumbline_serve.cli.weights import describe, find_weights
from plumbline_serve.edge.access import read_keys
from plumbline_serve.ports import held_block, obstacle
from plumbline_serve.ray_environment import listening
from plumbline_serve.settings import Settings

OK, BROKEN = 0, 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_fine: bool
    found: str
    advice: str = ""
    is_needed: bool = True
    """Whether the service cannot start without it."""


def examine(settings: Settings) -> int:
    """Look at everything that `plumbline serve` will need; 1 if something it cannot do without is missing."""
    findings = [*_backends(settings), *_encoders(settings), *_ports(settings), *_keys(settings), _cache(settings)]
    table = Table("", "what", "found", "what to do")
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_fine else "[red]no[/]" if finding.is_needed else "[yellow]-[/]"
        advice = paragraphs("" if finding.is_fine else finding.advice)
        table.add_row(mark, literally(finding.what), literally(finding.found), advice)
    show_table(table)
    return BROKEN if any(finding.is_needed and not finding.is_fine for finding in findings) else OK


def _backends(settings: Settings) -> Iterator[Finding]:
    yield Finding("processors", is_fine=True, found=f"{num_cpus()} CPUs")
    for status in available_backends():
        devices = ", ".join(status.devices) or "no device"
        yield Finding(
            f"backend {status.name}",
            status.is_available,
            f"{status.version} on {devices}" if status.is_available else "not usable here",
            status.hint,
            is_needed=settings.backend == status.name,
        )


def _encoders(settings: Settings) -> Iterator[Finding]:
    findings = find_weights(settings, "anywhere")
    for found in findings:
        what = f"weights {found.what}" if found.origin else found.what
        if found.fault is not None:
            yield Finding(what, is_fine=False, found=found.fault.title, advice=describe(found.fault, settings))
        elif found.origin is not None:
            where = "" if found.origin.is_present else ": not here yet, fetched at the first start"
            yield Finding(what, is_fine=True, found=f"{found.origin.source}{where}")
    if any(found.origin is None for found in findings):
        return  # they are listed above
    try:
        scorers = make_scorers(settings)
    except SetupError as error:
        yield Finding("scorers", is_fine=False, found=error.title, advice=describe(error, settings))
        return
    yield Finding("scorers", is_fine=True, found=", ".join(scorers))


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, host, port, where in listening(settings):
        reason = obstacle(host, port)
        found = f"{host}:{port} is free" if reason is None else f"{host}:{port}: {reason}"
        yield Finding(f"{name} port", reason is None, found, f"Choose another with {where}, or another --host.")
    if settings.port == settings.grpc_port:
        found = f"both protocols have {settings.port}"
        yield Finding("ports", is_fine=False, found=found, advice="Give REST and gRPC a port each.")
    try:
        with held_block(avoid=frozenset({settings.port, settings.grpc_port})) as block:
            yield Finding("inner ports", is_fine=True, found=f"{len(block)} in a row are free, such as {block[0]}")
    except ConfigError as error:
        yield Finding("inner ports", is_fine=False, found=error.detail, advice="End what listens there.")


def _keys(settings: Settings) -> Iterator[Finding]:
    if settings.auth.keys_file is None:
        return
    try:
        num_keys = len(read_keys(settings.auth.keys_file))
    except ConfigError as error:
        advice = "Make it with plumbline keys, as the user that the service runs as."
        yield Finding("API keys", is_fine=False, found=error.detail, advice=advice)
    else:
        found = f"{num_keys} in {settings.auth.keys_file}"
        yield Finding(
            "API keys", num_keys > 0, found, "Nobody may call: plumbline keys new makes one.", is_needed=False
        )


def _cache(settings: Settings) -> Finding:
    folder = settings.cache_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "Engines are compiled at every start; set PLUMBLINE_CACHE_DIR to a folder that can be written."
        return Finding("engine cache", is_fine=False, found=error.strerror or "", advice=advice, is_needed=False)
    return Finding("engine cache", is_fine=True, found=str(folder))
