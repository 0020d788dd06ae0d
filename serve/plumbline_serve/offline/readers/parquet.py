"""Parquet files: a row group at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plumbline_models.core.errors import InvalidFieldError, MalformedRequestError
from plumbline_serve.offline.rows import Row, RowReading, broken

ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """One file or several of the same columns, one behind the other.

    Images are paths, bytes, or `{bytes, path}` as the datasets library writes them.

    Raises:
        InvalidFieldError: When it is opened: it is no Parquet, or has no column of images.
    """

    paths: Sequence[Path]
    reading: RowReading
    kind: str = "parquet"

    def __post_init__(self) -> None:
        for path in self.paths:
            try:
                names = pq.read_schema(path).names
            except (pa.ArrowException, OSError) as error:
                raise InvalidFieldError(f"{path.name} cannot be read as Parquet.") from error
            if self.reading.image_column not in names:
                raise InvalidFieldError(f"{path.name} has no column {self.reading.image_column!r}.")

    def count(self) -> int:
        """As `Reader.count`."""
        return sum(pq.read_metadata(path).num_rows for path in self.paths)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """As `Reader.rows`; a row group that cannot be read is one broken row for each of its rows."""
        first = 0
        for path in self.paths:
            with pq.ParquetFile(path, memory_map=True) as file:
                for group in range(file.num_row_groups):
                    num_rows = file.metadata.row_group(group).num_rows
                    if stop is not None and first >= stop:
                        return
                    if first + num_rows > start:
                        yield from _between(self._group(file, group, first), start, stop)
                    first += num_rows

    def types(self) -> Mapping[str, Any]:
        """Of the first file."""
        schema = pq.read_schema(self.paths[0])
        hidden = (self.reading.image_column, self.reading.text_column)
        return {name: schema.field(name).type for name in schema.names if name not in hidden}

    def _group(self, file: pq.ParquetFile, group: int, first: int) -> Iterator[Row]:
        number, end = first, first + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                for columns in batch.to_pylist():
                    yield self.reading.row(number, columns)
                    number += 1
        except (pa.ArrowException, OSError):
            fault = MalformedRequestError("This part of the Parquet file is damaged.")
            yield from (broken(each, f"row {each}", fault) for each in range(number, end))


def _between(rows: Iterator[Row], start: int, stop: int | None) -> Iterator[Row]:
    for row in rows:
        if stop is not None and row.number >= stop:
            return
        if row.number >= start:
            yield row
