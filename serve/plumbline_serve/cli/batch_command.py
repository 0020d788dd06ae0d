"""`plumbline batch`: rows in, a table of scores out, and a summary for people."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.text.question_files import read_question_file
from plumbline_serve.cli.results import check_page, literally, show_table
from plumbline_serve.offline import batch
from plumbline_serve.offline.batch import SHARD_ROWS, Job, Outcome
from plumbline_serve.offline.outputs import Output, open_scored
from plumbline_serve.offline.progress import metered
from plumbline_serve.offline.readers import Reader, open_input
from plumbline_serve.offline.report import TAG_HEAD, collect, page, tag_lines
from plumbline_serve.offline.report.set_section import SET_HEAD, set_notes, shown_lines, shown_rows
from plumbline_serve.offline.report.thumbnails import Thumbnails
from plumbline_serve.offline.rows import AskedQuestions, RowReading
from plumbline_serve.offline.runners.chunks import Runner
from plumbline_serve.offline.sets import SetOptions, SetsDocument
from plumbline_serve.offline.summary import QUANTILES, Sample
from plumbline_serve.settings import load_settings

OK, SOME_FAILED = 0, 1
ENGINES = "plumbline_models.backends.store"
KEPT = "What was scored is kept: --resume goes on with it."
MAX_CODES = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be scored, and into what."""

    source: Path
    output: Path
    reading: RowReading
    scorers: Sequence[str] | None = None
    questions: Path | None = None
    sets: SetOptions | None = None

    def document(self, reader: Reader) -> dict[str, Any]:
        """What a run that goes on must have in common with the one before, JSON-ready.

        Args:
            reader: Of the input.
        """
        return {
            "input": str(self.source.resolve()),
            "kind of input": reader.kind,
            "state of the input": _state(reader.files()),
            "image column": self.reading.image_column,
            "text column": self.reading.text_column,
            "text": self.reading.text,
            "frames": self.reading.num_frames,
            "pool": self.reading.pool,
            "scorers": None if self.scorers is None else list(self.scorers),
            "questions": None if self.questions is None else _state([self.questions.resolve()]),
            "set": None if self.sets is None else {"by": self.sets.by},
        }


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are scored: in this process, unless a server is named or Ray is asked for."""

    config: Path | None = None
    server: str | None = None
    api_key: str | None = None
    ca: Path | None = None
    on_ray: bool = False

    def runner(self, scorers: Sequence[str] | None, *, makes_members: bool = False) -> Runner:
        """What scores there.

        Args:
            scorers: By name; None: all that are loaded.
            makes_members: Whether rows come back as members of a set as well.

        Raises:
            InvalidFieldError: Two places are named.
        """
        if self.server is not None and self.on_ray:
            raise InvalidFieldError("Rows are scored through --server or on --ray, not both.")
        if self.server is not None:
            from plumbline_serve.offline.runners.through_server import Server, ServerRunner  # noqa: PLC0415 - gRPC

            return ServerRunner(Server(self.server, self.api_key, self.ca), scorers, makes_members=makes_members)
        settings = load_settings(self.config)
        logging.getLogger(ENGINES).setLevel(logging.INFO)  # a first run compiles, which takes its time
        if self.on_ray:
            from plumbline_serve.offline.runners.on_ray import RayRunner  # noqa: PLC0415 - Ray

            return RayRunner(settings, scorers, makes_members=makes_members)
        from plumbline_serve.offline.runners.in_process import InProcessRunner  # noqa: PLC0415 - engines

        return InProcessRunner(settings, scorers, makes_members=makes_members)


def _state(paths: Sequence[Path]) -> list[list[Any]]:
    """Names, sizes and times of files; where one has changed, so has this."""
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def names_of(scorers: str | None) -> list[str] | None:
    """Names with commas between them; None: all."""
    return [name.strip() for name in scorers.split(",")] if scorers else None


def set_options(near_duplicate: float, by: str | None, *, is_asked: bool) -> SetOptions | None:
    """What is asked about all images together; None: nothing.

    Args:
        near_duplicate: Least cosine of near-duplicates.
        by: The column of groups.
        is_asked: Whether anything is.

    Raises:
        InvalidFieldError: There is a column, but no question.
    """
    if by is not None and not is_asked:
        raise InvalidFieldError("--set-by goes with --set.")
    return SetOptions(by, near_duplicate) if is_asked else None


def reading_of(source: Path, reading: RowReading, *, questions: Path | None) -> RowReading:
    """How columns become rows; relative paths of images are seen from the folder of the table.

    Args:
        source: Of the rows.
        reading: Its columns.
        questions: A file of questions.

    Raises:
        OSError: It cannot be read.
        InvalidFieldError: It is of no layout that is read.
    """
    folder = source if source.is_dir() else source.absolute().parent
    asked = None if questions is None else AskedQuestions(read_question_file(questions))
    return replace(reading, folder=folder, asked=asked)


def run(
    asked: Asked,
    place: Place,
    *,
    resumes: bool = False,
    shard_rows: int = SHARD_ROWS,
    report: Path | None = None,
) -> int:
    """Score, and say what came out.

    Args:
        asked: What.
        place: Where.
        resumes: Whether to go on with a run before.
        shard_rows: Most rows of a shard.
        report: File to write about the scores.

    Raises:
        PlumblineError: The input, the output or the configuration cannot be used.
    """
    output = Output.parse(asked.output)
    _check_places(asked, report)
    reader = open_input(asked.source, asked.reading)
    images = str(asked.reading.folder.resolve())
    job = Job(output, asked.document(reader), images, asked.sets, resumes=resumes, shard_rows=shard_rows)
    outcome = None if job.is_done else _scored(job, reader, place, asked.scorers)
    sets = None if asked.sets is None else SetsDocument.read(output.sets)
    return _said(output, outcome, reader, (report, sets))


def _check_places(asked: Asked, report: Path | None) -> None:
    """See that what is written can be, and is not read as input the next time."""
    if asked.source.is_dir() and asked.output.resolve().is_relative_to(asked.source.resolve()):
        raise InvalidFieldError(f"{asked.output} lies in the folder that is read: an output lies elsewhere.")
    check_page(report)


def _scored(job: Job, reader: Reader, place: Place, scorers: Sequence[str] | None) -> Outcome:
    """Score what no shard holds yet.

    Raises:
        PlumblineError: As `batch.run`, or a file could not be read or written.
    """
    with job.begun(), place.runner(scorers, makes_members=job.sets is not None) as runner:
        try:
            return batch.run(job, reader, runner, metered)
        except OSError as error:
            said = f"{error.filename or job.output.path}: {error.strerror or error}"
            raise PlumblineError(f"{said}. {KEPT}") from error
        except KeyboardInterrupt:
            print(f"plumbline: interrupted. {KEPT}", file=sys.stderr)
            raise


def _said(
    output: Output, outcome: Outcome | None, reader: Reader, about: tuple[Path | None, SetsDocument | None]
) -> int:
    """Print the summary, and write the report."""
    report, sets = about
    data = collect(open_scored(output.path), output.failures)
    num_failed = data.failures.num_rows if outcome is None else outcome.num_failed
    if report is not None:
        with Thumbnails() as thumbnails:
            pictures = thumbnails.of_rows(reader, data.numbers | shown_rows(sets))
        report.write_text(page(data, pictures, sets), encoding="utf-8")
    _show(data.sample, num_failed, output)
    if data.failures.by_code:
        print(f"Problems: {_counted(data.failures.by_code)}", file=sys.stderr)
    for name, tags in data.tags.items():
        if tags:
            _show_table((f"tag of {name}", *TAG_HEAD[1:]), tag_lines(tags), [])
    if sets is not None:
        _show_sets(sets, output)
    return SOME_FAILED if num_failed else OK


def _show(sample: Sample, num_failed: int, output: Output) -> None:
    table = Table("scorer", "rows", "mean", "least", *(f"{each:.0%}" for each in QUANTILES), "greatest")
    for each in sample.summaries():
        numbers = (each.mean, each.low, *each.quantiles, each.high)
        table.add_row(literally(each.name), f"{each.num:,}", *(f"{number:.4g}" for number in numbers))
    lines = [f"{_rows(sample.num_rows)} in {output.path}"]
    if num_failed:
        lines.append(f"{_rows(num_failed)} failed, wholly or in part: {output.failures}")
    show_table(table, *map(literally, lines))


def _counted(codes: Mapping[str, int]) -> str:
    """The problems that were met most, with how often."""
    most = Counter(codes).most_common(MAX_CODES)
    return ", ".join(f"{code} {count:,}" for code, count in most) + (", …" if len(codes) > len(most) else "")


def _show_sets(sets: SetsDocument, output: Output) -> None:
    notes = [*set_notes(sets), f"All values of the sets, and which rows are duplicates: {output.sets}"]
    _show_table(SET_HEAD, shown_lines(sets), notes)


def _show_table(head: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    table = Table(*head)
    for line in lines:
        table.add_row(*map(literally, line))
    show_table(table, *map(literally, notes))


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"
