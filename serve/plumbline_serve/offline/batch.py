"""One run: rows in, shards out, and at last one output."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from plumbline_models.core.errors import EngineError, InvalidFieldError, PlumblineError
from plumbline_serve.edge.problems import INTERNAL_STATUS
from plumbline_serve.memory.free_memory import trimmer
from plumbline_serve.offline.columns import check_names, holds_bytes
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.outputs import Output, open_scored
from plumbline_serve.offline.progress import SETS, Meter
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.runners.chunks import CHUNK_ROWS, Document, Runner, Scored
from plumbline_serve.offline.sets import KeptMembers, SetOptions, measured_sets
from plumbline_serve.offline.shards import FACTS_KEY, RUN_FILE, ShardFolder, shards_of, write_line, written

log = logging.getLogger(__name__)

IMAGES_BESIDE = ("reference_image", "frames")
"""Further columns whose images are scored."""
SHARD_ROWS = 4096
SHARD_AFTER_S = 60.0
"""Seconds after which a shard is written although it is not full: what a run that is killed has to do again."""
MAX_BROKEN_ROWS = 3 * CHUNK_ROWS
"""Rows in a row that the engines fail on before a run ends: three requests, as three batches are of a service."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the rows, those of runs before included."""

    num_rows: int
    num_failed: int
    """Rows that failed as a whole, or with a scorer."""


@dataclass(frozen=True, slots=True)
class Job:
    """Where a run writes, and what a run that goes on must have in common with the one before."""

    output: Output
    asked: Document
    """Input and options, JSON-ready."""
    images: str = ""
    """The folder that paths of images are seen from."""
    sets: SetOptions | None = None
    """What is asked about all images together; None: nothing."""
    resumes: bool = False
    shard_rows: int = SHARD_ROWS
    clock: Callable[[], float] = time.monotonic

    @property
    def is_done(self) -> bool:
        """Whether the output is whole already; only a run that goes on may find it so.

        Raises:
            InvalidFieldError: It is whole, but that of another run, or none of ours.
        """
        output = self.output
        if not self.resumes or output.kind == "folder" or not output.path.exists():
            return False  # a file is there once it is whole
        if (before := open_scored(output.path).facts.asked) and before != self.digests:
            raise InvalidFieldError(f"{output.path} is that of another {_different(before, self.digests)}.")
        output.forget_parts()  # a kill may have left them
        return True

    @property
    def digests(self) -> dict[str, str]:
        """What an output says of input and options: whether they are the same, and not what they are."""
        return {name: hashlib.sha256(orjson.dumps(value)).hexdigest()[:16] for name, value in self.asked.items()}

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Hold the output, whose shards no other process writes meanwhile.

        Raises:
            InvalidFieldError: It is there already, is being written, or belongs to another run.
        """
        output = self.output
        is_there = output.path.exists() if output.kind != "folder" else output.path.is_file()
        if is_there and not self.resumes:
            raise InvalidFieldError(f"{output.path} is there already.")
        if output.parts.is_dir() and shards_of(output.parts) and not self.resumes:
            raise InvalidFieldError(f"{output.parts} holds a run that was begun: --resume goes on with it.")
        if beside := [each for each in output.others if each.exists() and output.failures.exists()]:
            raise InvalidFieldError(f"{output.failures} is that of {beside[0]}: give the output another name.")
        output.parts.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output.parts / ".lock", timeout=0)
        try:
            with lock:
                self._check_run(output.parts / RUN_FILE)
                yield
        except Timeout as error:
            raise InvalidFieldError(f"Another process writes {output.path}.") from error

    def _check_run(self, path: Path) -> None:
        if path.is_file() and shards_of(path.parent):
            before = orjson.loads(path.read_bytes())
            if changed := _different(before, self.asked):
                raise InvalidFieldError(f"The run that was begun had another {changed}.")
            return
        with written(path) as draft:
            draft.write_bytes(write_line(self.asked))


def run(job: Job, reader: Reader, runner: Runner, meter: Callable[..., Any]) -> Outcome:
    """Score all rows that no shard holds yet, and make the output.

    Args:
        job: Begun.
        reader: Of the input.
        runner: Entered.
        meter: Makes what shows how far it is, of all rows and those done, as a context; as `metered` does.

    Raises:
        InvalidFieldError: The shards that are there have scores of other weights or conventions, or of other rows.
        EngineError: The engines failed on rows in a row.
    """
    check_names(runner.facts)
    types = dict(reader.types())
    if dropped := [name for name, kind in types.items() if holds_bytes(kind) and name not in IMAGES_BESIDE]:
        log.warning("columns of bytes do not pass through: %s", ", ".join(dropped))
    facts = runner.facts.model_copy(update={"images": job.images, "asked": job.digests})
    shards = ShardFolder(job.output.parts, facts, types)
    found = shards.shards()
    start = found[-1].end if found else 0
    if found:
        _check_facts(found[-1].path, runner.facts)
        _check_last(shards, reader, start)
    members = None if job.sets is None else KeptMembers(job.output.parts, job.sets.by)
    with meter(reader.count(), start) as shown:
        _write_shards(job, (shards, members), while_engines_run(runner.score_from(reader, start)), shown)
    outcome = outcome_of(job.output.parts)
    if job.sets is not None and members is not None:
        document = measured_sets(members.paths, facts, job.sets, partial(meter, done=0, what=SETS))
        with written(job.output.sets) as path:
            path.write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")
    job.output.join(shards)
    return outcome


def outcome_of(parts: Path) -> Outcome:
    """What became of the rows that shards hold.

    Args:
        parts: Their folder.
    """
    shards = shards_of(parts)
    num_failed = sum(num_failed_rows(shard.failures) for shard in shards)
    return Outcome(shards[-1].end if shards else 0, num_failed)


def num_failed_rows(path: Path) -> int:
    """Different rows in a side file; 0 where there is none."""
    if not path.is_file():
        return 0
    count, last = 0, None
    with path.open("rb") as file:
        for line in file:
            number = orjson.loads(line)["row"]
            count += number != last
            last = number
    return count


def _write_shards(
    job: Job, into: tuple[ShardFolder, KeptMembers | None], results: Iterator[Scored], meter: Meter
) -> None:
    shards, members = into

    def write(held: list[Scored]) -> None:
        if members is not None:
            members.write(held)
        shards.write(held)

    held: list[Scored] = []
    written_s, trim = job.clock(), trimmer() or (lambda: None)
    try:
        for scored in results:
            held.append(scored)
            meter.advance(1, int(has_failed(scored)))
            if len(held) >= job.shard_rows or job.clock() - written_s >= SHARD_AFTER_S:
                write(held)
                held, written_s = [], job.clock()
                trim()  # glibc keeps what rows leave, in pieces: without, 200,000 rows take 180 MiB more than 10,000
    except (KeyboardInterrupt, PlumblineError):
        if held:
            write(held)
        raise
    if held:
        write(held)


def while_engines_run(results: Iterator[Scored]) -> Iterator[Scored]:
    """The same results; rows that the engines failed on wait for one that shows that they run.

    So that a run that ends here has not written them as failed, and `--resume` scores them. What is wrong with a row
    itself says nothing of the engines.

    Args:
        results: In order.

    Raises:
        EngineError: There are too many of them in a row.
    """
    held: list[Scored] = []
    num_broken = 0
    for scored in results:
        held.append(scored)
        num_broken += _is_broken(scored.result)
        if num_broken >= MAX_BROKEN_ROWS:
            raise EngineError(
                f"The engines failed on every row from {held[0].row.number} to {scored.row.number}, and the run ends; "
                "what they said is above. The rows before are kept: --resume goes on with them."
            )
        runs = scored.result["status"] == "ok" and not _is_broken(scored.result)
        if runs or not num_broken or len(held) - num_broken >= MAX_BROKEN_ROWS:
            yield from held
            held, num_broken = [], 0
    yield from held


def _is_broken(result: Document) -> bool:
    """Whether the engines failed on a row, or one of them did."""
    if result["status"] != "ok":
        return bool(result["error"]["status"] == INTERNAL_STATUS)
    return any(score.get("error", {}).get("status") == INTERNAL_STATUS for score in result["scores"].values())


def has_failed(scored: Scored) -> bool:
    """Whether the row failed, or one of its scorers."""
    result = scored.result
    return result["status"] != "ok" or any("error" in score for score in result["scores"].values())


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The names of what is not the same, with commas between them."""
    return ", ".join(sorted(name for name in {**before, **now} if before.get(name) != now.get(name)))


def _check_facts(path: Path, facts: RunFacts) -> None:
    before = RunFacts.model_validate_json(pq.read_schema(path).metadata[FACTS_KEY])
    if before.scorers.keys() != facts.scorers.keys():
        raise InvalidFieldError(f"The run that was begun had the scorers {', '.join(before.scorers)}.")
    if before.set_encoder != facts.set_encoder:
        raise InvalidFieldError("The run that was begun kept the encodings of another encoder.")
    for name, scorer in facts.scorers.items():
        if before.scorers[name].binds != scorer.binds:
            raise InvalidFieldError(f"The run that was begun had other weights or conventions of {name}.")
        if before.scorers[name].made_in != scorer.made_in:
            raise InvalidFieldError(f"The run that was begun had {name} in {before.scorers[name].made_in}.")


def _check_last(shards: ShardFolder, reader: Reader, start: int) -> None:
    row = next(reader.rows(start - 1, start), None)
    if row is None or row.name != shards.last_name:
        raise InvalidFieldError(f"The input has changed since the run was begun: its row {start - 1} is another.")
