"""Parquet files: a row group at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plumbline_models.core.errors import InvalidFieldError, MalformedRequestError
from plumbline_serve.offline.readers.reading import check_columns
from plumbline_serve.offline.rows import Columns, Row, RowReading, broken

ROWS_AT_ONCE = 256
BYTES_AT_ONCE = 2**26
"""Of rows whose images stand in the file itself: about what is in memory at once."""
_NO_VALUE = (ValueError, OverflowError, LookupError, pa.ArrowException)
"""What Python has no value for: text that is not UTF-8, times beyond its years, time zones that it does not know."""


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """One file or several of the same columns, one behind the other.

    Images are paths, bytes, or `{bytes, path}` as the datasets library writes them. Times are read to the microsecond.

    Raises:
        InvalidFieldError: When it is opened: it is no Parquet, has no column of images, or two of one name.
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
            check_columns(path.name, names, self.reading.image_column)

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

    def files(self) -> Sequence[Path]:
        """As `Reader.files`."""
        return self.paths

    def types(self) -> Mapping[str, Any]:
        """Of the first file."""
        schema = pq.read_schema(self.paths[0])
        hidden = (self.reading.image_column, self.reading.text_column)
        return {field.name: _fine(field.type) for field in schema if field.name not in hidden}

    def _group(self, file: pq.ParquetFile, group: int, first: int) -> Iterator[Row]:
        about = file.metadata.row_group(group)
        number, end = first, first + about.num_rows
        at_once = min(ROWS_AT_ONCE, max(1, BYTES_AT_ONCE * about.num_rows // max(1, about.total_byte_size)))
        try:
            for batch in file.iter_batches(at_once, row_groups=[group]):
                for line in _lines(_to_microseconds(batch)):
                    yield self._row(number, line)
                    number += 1
        except (pa.ArrowException, OSError):
            fault = MalformedRequestError("This part of the Parquet file is damaged.")
            yield from (broken(each, f"row {each}", fault) for each in range(number, end))

    def _row(self, number: int, line: Columns | MalformedRequestError) -> Row:
        if isinstance(line, MalformedRequestError):
            return broken(number, f"row {number}", line)
        return self.reading.row(number, line)


def _lines(batch: pa.RecordBatch) -> Iterator[Columns | MalformedRequestError]:
    """The rows of a batch by column; what is wrong with one is in its place."""
    try:
        lines = batch.to_pylist()
    except _NO_VALUE:
        if batch.num_rows > 1:
            for place in range(batch.num_rows):
                yield from _lines(batch.slice(place, 1))
            return
        lines = [_fault_of(batch)]
    yield from lines


def _fault_of(row: pa.RecordBatch) -> MalformedRequestError:
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            column.to_pylist()
        except _NO_VALUE:
            return MalformedRequestError(f"The column {name} holds what cannot be read.")
    return MalformedRequestError("The row cannot be read.")


def _to_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of times with microseconds: of nanoseconds Python has no values."""
    for place, field in enumerate(batch.schema):
        if (fine := _fine(field.type)) != field.type:
            batch = batch.set_column(place, field.name, batch.column(place).cast(fine, safe=False))
    return batch


def _fine(kind: pa.DataType) -> pa.DataType:
    is_too_fine = pa.types.is_timestamp(kind) and kind.unit == "ns"
    return pa.timestamp("us", kind.tz) if is_too_fine else kind


def _between(rows: Iterator[Row], start: int, stop: int | None) -> Iterator[Row]:
    for row in rows:
        if stop is not None and row.number >= stop:
            return
        if row.number >= start:
            yield row
