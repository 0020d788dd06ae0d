"""One output of many shards, and scored rows read again from whichever output."""

import csv
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.columns import conformed
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.shards import (
    FACTS_KEY,
    ShardFolder,
    all_lines,
    facts_metadata,
    shards_of,
    write_line,
    written,
)

OutputKind: TypeAlias = Literal["folder", "parquet", "jsonl", "csv"]
KINDS: dict[str, OutputKind] = {"": "folder", ".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv"}
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Output:
    """Where scores go: a folder of Parquet shards, or one file, whose shards lie beside it until it is whole."""

    path: Path
    kind: OutputKind

    @classmethod
    def parse(cls, path: Path) -> "Output":
        """See the kind of an output by its name.

        Raises:
            InvalidFieldError: It is none that is written.
        """
        kind = KINDS.get(path.suffix.lower())
        if kind is None:
            raise InvalidFieldError(
                f"An output is a folder, or .parquet, .jsonl or .csv; {path.name} is none of these."
            )
        return cls(path, kind)

    @property
    def parts(self) -> Path:
        """The folder of shards."""
        return self.path if self.kind == "folder" else self.path.with_name(f"{self.path.name}.parts")

    @property
    def failures(self) -> Path:
        """The side file of rows that failed."""
        return self.path / "failed.jsonl" if self.kind == "folder" else self.path.with_suffix(".failed.jsonl")

    @property
    def sets(self) -> Path:
        """The measures of its sets, where they were asked for."""
        return self.path / "sets.json" if self.kind == "folder" else self.path.with_suffix(".sets.json")

    @property
    def metadata(self) -> Path:
        """What scores are made by, where the format itself has no place for it."""
        return self.path.with_suffix(f"{self.path.suffix}.meta.json")

    @property
    def others(self) -> list[Path]:
        """Outputs of other formats, which would have the same side files."""
        names = [self.path.with_suffix(suffix) for suffix in KINDS if suffix]
        return [] if self.kind == "folder" else [name for name in names if name != self.path]

    def join(self, shards: ShardFolder) -> None:
        """Make the output of its shards, which are gone then.

        Args:
            shards: All that there are.
        """
        schema = shards.unify()
        _join_failures(shards, self.failures)
        if self.kind == "folder":
            return
        if self.kind == "parquet":
            _join_parquet(shards, schema, self.path)
        else:
            with written(self.metadata) as path:
                path.write_text(shards.facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
            write = _join_jsonl if self.kind == "jsonl" else _join_csv
            write(shards, schema, self.path)
        self.forget_parts()

    def forget_parts(self) -> None:
        """Remove the shards of a file that is whole, as far as they are still there."""
        if self.kind != "folder":
            shutil.rmtree(self.parts, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class ScoredTable:
    """An output that was written, read in parts."""

    path: Path
    facts: RunFacts
    names: Sequence[str]
    """Of its columns."""

    def lines(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows, by column.

        Args:
            columns: Only these; None: all.
        """
        if self.path.suffix.lower() == ".jsonl":
            yield from _jsonl_lines(self.path, columns)
        elif self.path.suffix.lower() == ".csv":
            yield from _csv_lines(self.path, columns, self.facts)
        else:
            for path in _parquet_files(self.path):
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                        yield from map(_with_mappings, batch.to_pylist())


def open_scored(path: Path) -> ScoredTable:
    """Open an output of `plumbline batch`.

    Raises:
        InvalidFieldError: It is none.
    """
    if not path.exists():
        raise InvalidFieldError(f"There is no file {path}.")
    try:
        if path.suffix.lower() in (".jsonl", ".csv"):
            document = Output.parse(path).metadata.read_bytes()
            names = _names(path)
        else:
            schema = pq.read_schema(_parquet_files(path)[0])
            document, names = schema.metadata[FACTS_KEY], schema.names
        return ScoredTable(path, RunFacts.model_validate_json(document), names)
    except (OSError, IndexError, KeyError, TypeError, ValueError, ValidationError, pa.ArrowException) as error:
        raise InvalidFieldError(
            f"{path} was not written by plumbline batch: what made its scores is not said."
        ) from error


def _parquet_files(path: Path) -> list[Path]:
    return [each.path for each in shards_of(path)] if path.is_dir() else [path]


def _names(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            return next(csv.reader(file))
        line = file.readline()
    return list(orjson.loads(line)) if line.strip() else []


def _jsonl_lines(path: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for text in file:
            line = orjson.loads(text)
            yield line if columns is None else {name: line.get(name) for name in columns}


def _csv_lines(path: Path, columns: Sequence[str] | None, facts: RunFacts) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            wanted = line if columns is None else {name: line.get(name) for name in columns}
            yield {name: _read_field(name, value, facts) for name, value in wanted.items()}


def _read_field(name: str, value: str | None, facts: RunFacts) -> Any:
    """A field of CSV: scores and their details are numbers, lists and the like, the others text."""
    if not value:
        return None
    if name == "row" or facts.scorer_of(name) is not None:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _with_mappings(line: dict[str, Any]) -> dict[str, Any]:
    """Maps as mappings; Arrow gives them as pairs."""
    for name, value in line.items():
        if name.endswith((".rates", ".probabilities")) and isinstance(value, list):
            line[name] = dict(value)
    return line


def _join_failures(shards: ShardFolder, target: Path) -> None:
    parts = [shard.failures for shard in shards.shards() if shard.failures.is_file()]
    if not parts:
        target.unlink(missing_ok=True)
        return
    with written(target) as path, path.open("wb") as file:
        file.writelines(all_lines(parts))


def _join_parquet(shards: ShardFolder, schema: pa.Schema, target: Path) -> None:
    with written(target) as path:
        whole = schema.with_metadata(facts_metadata(shards.facts))
        with pq.ParquetWriter(path, whole) as writer:
            for shard in shards.shards():
                writer.write_table(conformed(pq.read_table(shard.path), schema).cast(whole))


def _join_jsonl(shards: ShardFolder, schema: pa.Schema, target: Path) -> None:
    with written(target) as path, path.open("wb") as file:
        for line in _lines_of(shards, schema):
            file.write(write_line(line))


def _join_csv(shards: ShardFolder, schema: pa.Schema, target: Path) -> None:
    with written(target) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(schema.names)
        for line in _lines_of(shards, schema):
            writer.writerow([_csv_field(line[name]) for name in schema.names])


def _csv_field(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    text = orjson.dumps(value, default=str)
    return orjson.loads(text) if text.startswith(b'"') else text.decode()  # a date, a decimal number


def _lines_of(shards: ShardFolder, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    for shard in shards.shards():
        for batch in conformed(pq.read_table(shard.path), schema).to_batches(ROWS_AT_ONCE):
            yield from map(_with_mappings, batch.to_pylist())
