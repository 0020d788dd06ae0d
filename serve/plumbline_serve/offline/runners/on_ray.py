"""Rows scored on a Ray cluster by Ray Data: read in pieces where there is room, scored by actors, written here.

The pieces are cut by the same readers, and results come back in the order of rows, so that the shards are those of a
run in one process. Needs the extra `data`; the input must be readable under its path on every node.
"""

import logging
import math
import os
import pickle  # nosec B403 - what this program's own tasks wrote
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from plumbline_models.core.errors import ConfigError
from plumbline_serve.machine.ray_token import own_token
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import Settings

ADDRESS = "RAY_ADDRESS"
ROWS_PER_BATCH = 256
MAX_PIECES = 256
"""Each piece reads its input from the front to where it begins."""
MAX_ACTORS = 1024
ACTORS_TIMEOUT_S = 1800  # to load and compile large networks
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
    found = [Piece(reader, first, first + size) for first in range(start, total, size)]
    return [*found[:-1], *(replace(last, stop=None) for last in found[-1:])]  # should there be more than were counted


class RayRunner:
    """Scores on the cluster that `RAY_ADDRESS` names, or one that is started here; a context manager.

    Args:
        settings: How; `replicas.encoder_cpus` and `encoder_gpus` say what one actor reserves.
        scorers: By name; None: all that are configured.
        makes_members: Whether rows come back as members of a set as well.

    Raises:
        ConfigError: When it is entered: Ray Data is not installed.
        PlumblineError: No actor can score.
    """

    def __init__(
        self, settings: Settings, scorers: Sequence[str] | None = None, *, makes_members: bool = False
    ) -> None:
        replicas = settings.replicas
        threads = replicas.compute_threads or max(1, int(replicas.encoder_cpus))
        replicas = replicas.model_copy(update={"compute_threads": threads, "decode_threads": threads})
        self._settings = settings.model_copy(update={"replicas": replicas})
        self._names = scorers
        self._makes_members = makes_members
        self._facts = RunFacts()
        self._is_connected = False
        self._folder = tempfile.TemporaryDirectory(prefix="plumbline-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        try:
            self._connect()
            import ray  # noqa: PLC0415

            as_task: Any = ray.remote(**self._resources())  # whose types know no keywords
            asked = as_task(facts_of).remote(self._settings, self._names, makes_members=self._makes_members)
            found: Any = ray.get(asked)
        except BaseException:
            self.__exit__()
            raise
        self._facts = found
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_connected:
            import ray  # noqa: PLC0415

            ray.shutdown()
        self._folder.cleanup()

    def _connect(self) -> None:
        """Join the cluster that is named, else start one that only this machine reaches, and only with its token."""
        options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
        if ADDRESS not in os.environ:
            os.environ.update(own_token(Path(self._folder.name)))
            options |= {"address": "local", "_node_ip_address": "127.0.0.1", "include_dashboard": False}
        try:
            import ray.data  # noqa: PLC0415 - once the environment is set; needs pandas, which no other part does
        except ImportError as error:
            raise ConfigError("--ray needs Ray Data: pip install plumbline-serve[data].") from error
        if not ray.is_initialized():
            self._is_connected = True
            ray.init(**options)

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
        context.wait_for_min_actors_s = ACTORS_TIMEOUT_S  # or reading takes the CPUs that they need
        source = ray_data.from_items([pickle.dumps(piece) for piece in cut], override_num_blocks=len(cut))
        read = source.flat_map(_read, num_cpus=READING_CPUS)
        scored = read.map_batches(
            Scoring,
            fn_constructor_args=(self._settings, self._names),
            fn_constructor_kwargs={"makes_members": self._makes_members},
            batch_size=ROWS_PER_BATCH,
            batch_format="pyarrow",
            compute=ray_data.ActorPoolStrategy(min_size=self._num_actors(), max_size=MAX_ACTORS),
            **self._resources(),
        )
        for batch in scored.iter_batches(batch_size=ROWS_PER_BATCH, batch_format="pyarrow"):
            yield from _unpacked(batch)

    def _num_actors(self) -> int:
        """How many fit into the cluster as it is, with room to read the input; more come where it grows."""
        import ray  # noqa: PLC0415

        wanted = {"CPU": self._settings.replicas.encoder_cpus, "GPU": self._settings.replicas.encoder_gpus}
        count = 0
        nodes: Any = ray.nodes  # it has no types
        for node in nodes():
            free = {**node["Resources"], "CPU": node["Resources"].get("CPU", 0.0) - READING_CPUS}
            fits = [free.get(name, 0.0) // share for name, share in wanted.items() if share]
            count += max(0, int(min(fits, default=1.0))) if node["Alive"] else 0
        return min(MAX_ACTORS, max(1, count))

    def _resources(self) -> dict[str, Any]:
        return {"num_cpus": self._settings.replicas.encoder_cpus, "num_gpus": self._settings.replicas.encoder_gpus}


class Scoring:
    """One actor: engines of its own.

    Args:
        settings: As for `RayRunner`.
        scorers: Likewise.
        makes_members: Likewise.
    """

    def __init__(self, settings: Settings, scorers: Sequence[str] | None, *, makes_members: bool) -> None:
        self._runner = InProcessRunner(settings, scorers, makes_members=makes_members).__enter__()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the rows of a batch."""
        return _packed(list(self._runner.score(_unpacked(batch))))


def facts_of(settings: Settings, scorers: Sequence[str] | None, *, makes_members: bool) -> RunFacts:
    """What scores will be made by, as an actor sees it.

    Args:
        settings: As for `RayRunner`.
        scorers: Likewise.
        makes_members: Likewise.
    """
    with InProcessRunner(settings, scorers, makes_members=makes_members) as runner:
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
