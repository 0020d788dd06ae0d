"""`plumbline doctor`: what works here, what does not, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict

from rich.table import Table

from plumbline_models.backends import available_backends
from plumbline_models.core.errors import SetupError
from plumbline_serve.cli.checks import Finding, look
from plumbline_serve.cli.memory import find_memory
from plumbline_serve.cli.results import literally, paragraphs, show_json, show_table
from plumbline_serve.cli.weights import describe, find_weights
from plumbline_serve.configured_scorers import make_scorers, num_cpus
from plumbline_serve.settings import Settings

OK, BROKEN = 0, 1


def examine(settings: Settings, *, as_json: bool = False) -> int:
    """Look at everything that `plumbline serve` will need; 1 if something it cannot do without is missing.

    Args:
        settings: What it would run with.
        as_json: Print an object for each finding instead of a table.
    """
    findings = [*_backends(settings), *_encoders(settings), *look(settings)]
    status = BROKEN if any(finding.is_needed and not finding.is_fine for finding in findings) else OK
    if as_json:
        show_json({"findings": [asdict(finding) for finding in findings]})
        return status
    table = Table("", "what", "found", "what to do")
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_fine else "[red]no[/]" if finding.is_needed else "[yellow]-[/]"
        advice = paragraphs("" if finding.is_fine else finding.advice)
        table.add_row(mark, literally(finding.what), literally(finding.found), advice)
    show_table(table)
    return status


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
    yield from find_memory((found.memory_bytes for found in findings if found.origin is not None), settings)
    if any(found.origin is None for found in findings):
        return  # they are listed above
    try:
        scorers = make_scorers(settings)
    except SetupError as error:
        yield Finding("scorers", is_fine=False, found=error.title, advice=describe(error, settings))
        return
    yield Finding("scorers", is_fine=True, found=", ".join(scorers))
