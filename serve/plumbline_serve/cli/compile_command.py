"""`plumbline compile`: every engine built ahead of time, with a report of what was built and where it lies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from plumbline_models.backends import AheadCompiler, KeptEngine, PrecisionChoice, Tuning, open_compiler
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from plumbline_serve.cli.results import literally, show_json, show_table
from plumbline_serve.configured_scorers import tuning_of, wanted_graphs
from plumbline_serve.settings import Settings

OK, SOME_FAILED = 0, 1
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class FailedGraph:
    """A graph that would not compile."""

    graph: str
    precision: str
    detail: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all graphs, in the order in which they were compiled."""

    engines: Sequence[KeptEngine]
    failed: Sequence[FailedGraph]


def build(settings: Settings, out: Path | None) -> Report:
    """Build, or find, the engines of every configured scorer; progress goes to the terminal.

    Args:
        settings: Name the scorers, the backend and the precision.
        out: Folder for the engines, made where it is not there, readable by everyone; None: the engine cache.

    Raises:
        PlumblineError: The configuration is wrong, or the backend builds nothing here.
    """
    tuning = tuning_of(settings)
    if out is not None:
        tuning = replace(tuning, cache_dir=out, engines_dir=None)
    usual = open_compiler(settings.backend, precision=settings.precision, tuning=tuning)
    with _progress() as progress:
        task = progress.add_task("Reading the configuration", total=None)
        graphs = wanted_graphs(settings, usual.name, usual.precision)
        progress.update(task, total=len(graphs))
        report = _build_all(graphs, usual, tuning, _Display(progress, task))
    for engine in report.engines if out is not None else ():
        for folder in (engine.folder, engine.weights_folder):
            if folder is not None:
                _make_readable(folder)
    return report


def show(report: Report, *, as_json: bool) -> int:
    """Print the report; the exit status says whether every graph compiled.

    Args:
        report: Of `build`.
        as_json: For programs, instead of a table for people.
    """
    if as_json:
        show_json(orjson.loads(orjson.dumps(asdict(report), default=str)))
    else:
        _print_tables(report)
    return SOME_FAILED if report.failed else OK


class _Display:
    """One line for all graphs: which is being built, in which phase, and how many are done."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._what = ""

    def begin(self, what: str) -> None:
        """A graph is being built."""
        self._what = what
        self._progress.update(self._task, description=what)
        if not self._progress.console.is_terminal:  # where a bar would not show
            task = self._progress.tasks[self._task]
            self._progress.console.print(f"{task.completed + 1:g}/{task.total:g} {what}", highlight=False)

    def phase(self, phase: str, num_done: int, num_steps: int) -> None:
        """The compiler is in this phase of it.

        Args:
            phase: As the compiler calls it.
            num_done: Steps of the phase that are done.
            num_steps: Steps that it has.
        """
        self._progress.update(self._task, description=f"{self._what}: {phase} {num_done}/{num_steps}")

    def end(self) -> None:
        """A graph is done."""
        self._progress.advance(self._task)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns, TimeElapsedColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True
    ) as progress:
        yield progress


def _build_all(graphs: Sequence[tuple[Graph, str]], usual: AheadCompiler, tuning: Tuning, display: _Display) -> Report:
    compilers = {usual.precision: usual}
    engines: list[KeptEngine] = []
    failed: list[FailedGraph] = []
    for graph, precision in graphs:
        if precision not in compilers:
            choice = cast("PrecisionChoice", precision)
            compilers[precision] = open_compiler(usual.name, precision=choice, tuning=tuning)
        compiler = compilers[precision]
        computed_in = compiler.precision_of(graph)
        display.begin(f"{graph.name} in {computed_in}")
        try:
            engines.append(compiler.keep(graph, display.phase))
        except EngineError as error:
            failed.append(FailedGraph(graph.name, computed_in, error.detail, str(error.facts.get("reason", ""))))
        display.end()
    return Report(engines, failed)


def _make_readable(folder: Path) -> None:
    """For whoever runs the image that the folder is shipped in."""
    for path in (folder.parent, folder):
        path.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _print_tables(report: Report) -> None:
    table = Table()
    table.add_column("graph", no_wrap=True)
    for name in ("precision", "inputs: smallest, typical, largest", "seconds", "MiB", "weights", "layers"):
        table.add_column(name)
    for engine in report.engines:
        inputs = Text(engine.profile.replace("; ", "\n"))
        table.add_row(engine.graph, engine.precision, inputs, *_numbers(engine))
    folders = sorted({(e.backend, e.device, str(e.folder.parent)) for e in report.engines})
    lines = [literally(f"{backend} engines for {device} devices, in {folder}") for backend, device, folder in folders]
    for each in report.failed:
        graph = Text(f"{each.graph} in {each.precision}", style="red")
        lines.append(Text.assemble(graph, ": ", literally(f"{each.detail} {each.reason}")))
    show_table(table, *lines)


def _numbers(engine: KeptEngine) -> tuple[Any, ...]:
    seconds = "found" if engine.was_found else f"{engine.build_s:.1f}"
    weights = "inside" if engine.weights_folder is None else f"{engine.num_weight_bytes / _MIB:.1f} MiB beside"
    return seconds, f"{engine.num_bytes / _MIB:.1f}", weights, str(engine.num_layers)
