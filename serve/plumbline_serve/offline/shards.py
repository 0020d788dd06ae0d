"""Shards: parts of an output, each written whole or not at all, so that a run that was killed goes on where it was.

A shard holds the results of consecutive rows, whose numbers its name says. It is written under another name, flushed
to the disk and renamed. The rows that failed are written beside it before, so that where there is a shard they are
there, too.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_serve.offline.columns import conformed, first_schema, table_of, unified
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.runners.chunks import Document, Scored

SHARD = re.compile(r"part-(\d{12})-(\d{12})\.parquet")
FAILURES = re.compile(r"failed-\d{12}-\d{12}\.jsonl")
DRAFT = re.compile(r"\.(part|failed|members)-\d{12}-\d{12}\.\w+\.draft")
FAILED = "failed-{first:012d}-{end:012d}.jsonl"
PART = "part-{first:012d}-{end:012d}.parquet"
FACTS_KEY, LAST_KEY = b"plumbline", b"plumbline.last"
"""Of a file's metadata: what scores are made by, and the name of the last row's image."""
RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard on the disk."""

    path: Path
    first: int
    end: int
    """The number behind the last row."""

    @property
    def failures(self) -> Path:
        """Its rows that failed; no file where there are none."""
        return self.path.with_name(FAILED.format(first=self.first, end=self.end))


class ShardFolder:
    """The shards of one run.

    Args:
        path: Their folder, which is made if it is not there.
        facts: What scores are made by.
        types: Arrow types of the input's columns, where it says them.
    """

    def __init__(self, path: Path, facts: RunFacts, types: dict[str, pa.DataType]) -> None:
        self.path = path
        self.facts = facts
        path.mkdir(parents=True, exist_ok=True)
        _clear(path)
        self._schema = first_schema(facts, types)
        if shards := self.shards():
            self._schema = _without_metadata(pq.read_schema(shards[-1].path))

    def shards(self) -> list[Shard]:
        """All that are there, in order.

        Raises:
            InvalidFieldError: One is missing between them.
        """
        found = shards_of(self.path)
        end = 0
        for shard in found:
            if shard.first != end:
                raise InvalidFieldError(f"{self.path} lacks the rows from {end} to {shard.first}.")
            end = shard.end
        return found

    @property
    def last_name(self) -> str | None:
        """The name of the last row's image; None where there are no rows."""
        shards = self.shards()
        if not shards:
            return None
        return str(orjson.loads(pq.read_schema(shards[-1].path).metadata[LAST_KEY]))

    def write(self, scored: Sequence[Scored]) -> Shard:
        """Write a shard of consecutive rows.

        Args:
            scored: At least one, in order.

        Raises:
            PlumblineError: A row is missing between them, or is there twice: nothing is written.
        """
        first, end = scored[0].row.number, scored[-1].row.number + 1
        if [each.row.number for each in scored] != list(range(first, end)):
            raise PlumblineError("Rows came back in another order than they were read.", first=first, end=end)
        shard = Shard(self.path / PART.format(first=first, end=end), first, end)
        if failures := [line for each in scored for line in failure_lines(each)]:
            with written(shard.failures) as path:
                path.write_bytes(b"".join(map(write_line, failures)))
        table = table_of(scored, self.facts, self._schema)
        self._schema = table.schema
        with written(shard.path) as path:
            last = {LAST_KEY: orjson.dumps(scored[-1].row.name)}
            pq.write_table(table.replace_schema_metadata(facts_metadata(self.facts) | last), path)
        return shard

    def unify(self) -> pa.Schema:
        """Give all shards the same columns; those that have them already are not touched."""
        shards = self.shards()
        schema = unified(
            [_without_metadata(pq.read_schema(each.path)) for each in shards] or [self._schema], self.facts
        )
        for shard in shards:
            metadata = pq.read_schema(shard.path).metadata
            if _without_metadata(pq.read_schema(shard.path)) != schema:
                table = conformed(pq.read_table(shard.path), schema)
                with written(shard.path) as path:
                    pq.write_table(table.replace_schema_metadata(metadata), path)
        return schema


def shards_of(folder: Path) -> list[Shard]:
    """The shards of a folder, in order."""
    found = [(SHARD.fullmatch(each.name), each) for each in folder.iterdir()]
    return sorted(
        (Shard(path, int(match[1]), int(match[2])) for match, path in found if match), key=lambda shard: shard.first
    )


def failure_lines(scored: Scored) -> Iterator[Document]:
    """What the side file says of a row: that it failed, or each scorer that did."""
    row, result = scored.row, scored.result
    line = {"row": row.number, "image": row.name or None, "text": row.text}
    if "id" in row.columns:
        line["id"] = row.columns["id"]
    if result["status"] != "ok":
        yield {**line, "scorer": None, "problem": result["error"]}
        return
    for name, score in result["scores"].items():
        if "error" in score:
            yield {**line, "scorer": name, "problem": score["error"]}


def facts_metadata(facts: RunFacts) -> dict[bytes, bytes]:
    """The facts as metadata of a Parquet file."""
    return {FACTS_KEY: facts.model_dump_json().encode()}


def write_line(document: Any) -> bytes:
    """One line of JSON lines."""
    return orjson.dumps(document, default=str, option=orjson.OPT_APPEND_NEWLINE)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Another name to write under; then the file takes its place at once, and stays through a loss of power.

    Args:
        path: Where it is to be.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        _flush(draft)
        draft.replace(path)
        _flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Remove what a run that was killed left unfinished: drafts, and failures without their shard."""
    kept = {shard.failures.name for shard in shards_of(folder)}
    for path in folder.iterdir():
        if DRAFT.fullmatch(path.name) or (FAILURES.fullmatch(path.name) and path.name not in kept):
            path.unlink()


def _without_metadata(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, field.type) for field in schema])


def all_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """The bytes of files, one behind the other."""
    for path in paths:
        if path.is_file():
            yield path.read_bytes()
