"""Rows scored on a Ray cluster by Ray Data: read in pieces where there is room, scored by actors, written here.

The pieces are cut by the same readers, and results come back in the order of rows, so that the shards are those of a
run in one process. Needs the extra `data`; the input must be readable under its path on every node.
"""

import logging
import math
import pickle  # nosec B403 - what this program's own tasks wrote
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from plumbline_models.core.errors import ConfigError
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import Settings

ROWS_PER_BATCH = 256
MAX_PIECES = 256
"""Each piece reads its input from the front to where it begins."""
MAX_ACTORS = 1024
READING_CPUS = 0.25  # of a task that waits for a disk


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of an input."""

    reader: Reader
    start: int
    stop: int | None


def pieces(reader: Reader, start: int) -> list[Piece]:
    """The rows from one on, in pieces that nodes read side by side.

    Args:
        reader: Of the input.
        start: The first row's number.
    """
    total = reader.count()
    if total is None:
        return [Piece(reader, start, None)]
    size = max(ROWS_PER_BATCH, math.ceil((total - start) / MAX_PIECES))
    return [Piece(reader, first, first + size) for first in range(start, total, size)]


class RayRunner:
    """Scores on the cluster that `RAY_ADDRESS` names, or one that is started here; a context manager.

    Args:
        settings: How; `replicas.encoder_cpus` and `encoder_gpus` say what one actor reserves.
        scorers: By name; None: all that are configured.

    Raises:
        ConfigError: When it is entered: Ray Data is not installed.
        PlumblineError: No actor can score.
    """

    def __init__(self, settings: Settings, scorers: Sequence[str] | None = None) -> None:
        replicas = settings.replicas
        threads = replicas.compute_threads or max(1, int(replicas.encoder_cpus))
        replicas = replicas.model_copy(update={"compute_threads": threads, "decode_threads": threads})
        self._settings = settings.model_copy(update={"replicas": replicas})
        self._names = scorers
        self._facts = RunFacts()

    def __enter__(self) -> Self:
        try:
            from ray import data  # noqa: F401, PLC0415 - needs pandas, which no other part does
        except ImportError as error:
            raise ConfigError("--ray needs Ray Data: pip install plumbline-serve[data].") from error
        import ray  # noqa: PLC0415

        if not ray.is_initialized():
            ray.init(logging_level=logging.WARNING, log_to_driver=False)
        ask: Any = ray.remote(**self._resources())(facts_of)
        found: Any = ray.get(ask.remote(self._settings, self._names))
        self._facts = found
        return self

    def __exit__(self, *_: object) -> None:
        import ray  # noqa: PLC0415

        ray.shutdown()

    @property
    def facts(self) -> RunFacts:
        """As `Runner.facts`."""
        return self._facts

    def score_from(self, reader: Reader, start: int) -> Iterator[Scored]:
        """As `Runner.score_from`."""
        from ray import data as ray_data  # noqa: PLC0415

        cut = pieces(reader, start)
        if not cut:
            return
        context = ray_data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        source = ray_data.from_items([pickle.dumps(piece) for piece in cut], override_num_blocks=len(cut))
        read = source.flat_map(_read, num_cpus=READING_CPUS)
        scored = read.map_batches(
            Scoring,
            fn_constructor_args=(self._settings, self._names),
            batch_size=ROWS_PER_BATCH,
            batch_format="pyarrow",
            concurrency=(1, MAX_ACTORS),
            **self._resources(),
        )
        for batch in scored.iter_batches(batch_size=ROWS_PER_BATCH, batch_format="pyarrow"):
            yield from _unpacked(batch)

    def _resources(self) -> dict[str, Any]:
        return {"num_cpus": self._settings.replicas.encoder_cpus, "num_gpus": self._settings.replicas.encoder_gpus}


class Scoring:
    """One actor: engines of its own.

    Args:
        settings: As for `RayRunner`.
        scorers: Likewise.
    """

    def __init__(self, settings: Settings, scorers: Sequence[str] | None) -> None:
        self._runner = InProcessRunner(settings, scorers).__enter__()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the rows of a batch."""
        return _packed(list(self._runner.score(_unpacked(batch))))


def facts_of(settings: Settings, scorers: Sequence[str] | None) -> RunFacts:
    """What scores will be made by, as an actor sees it.

    Args:
        settings: As for `RayRunner`.
        scorers: Likewise.
    """
    with InProcessRunner(settings, scorers) as runner:
        return runner.facts


def _read(item: dict[str, Any]) -> Iterator[list[dict[str, Any]] | dict[str, Any]]:
    piece: Piece = pickle.loads(item["item"])  # noqa: S301  # nosec B301 - this program's own
    for row in piece.reader.rows(piece.start, piece.stop):
        yield {"packed": pickle.dumps(row)}


def _packed(values: Sequence[object]) -> pa.Table:
    return pa.table({"packed": pa.array([pickle.dumps(each) for each in values], pa.binary())})


def _unpacked(table: pa.Table) -> Iterator[Any]:
    for packed in table.column("packed"):
        yield pickle.loads(packed.as_py())  # noqa: S301  # nosec B301 - this program's own
