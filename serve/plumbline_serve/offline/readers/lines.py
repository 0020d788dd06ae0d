"""Tables of text: CSV and JSON lines."""

import codecs
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import orjson

from plumbline_models.core.errors import InvalidFieldError, MalformedRequestError
from plumbline_serve.offline.readers.reading import check_columns
from plumbline_serve.offline.rows import Row, RowReading, broken

MAX_LINE_BYTES = 2**26
BLOCK_BYTES = 2**20
csv.field_size_limit(min(MAX_LINE_BYTES, sys.maxsize))


@dataclass(frozen=True, slots=True)
class CsvReader:
    """A header, then a row per line; fields may hold line ends in quotes.

    A column without a name is called by its place, `column 1`.

    Raises:
        InvalidFieldError: When it is opened: it has no column of images, or two of one name.
    """

    path: Path
    reading: RowReading
    delimiter: str
    kind: str = "csv"

    def __post_init__(self) -> None:
        with self.path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            check_columns(self.path.name, self._header(self._lines(file)), self.reading.image_column)

    def count(self) -> int:
        """As `Reader.count`."""
        return max(0, _num_lines(self.path) - 1)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """As `Reader.rows`."""
        with self.path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            lines = self._lines(file)
            header = self._header(lines)
            for number, line in islice(enumerate(_readable(lines)), start, stop):
                yield self._row(number, header, line)

    def files(self) -> Sequence[Path]:
        """As `Reader.files`."""
        return [self.path]

    def types(self) -> Mapping[str, Any]:
        """None are said: all is text."""
        return {}

    def _lines(self, file: TextIO) -> Iterator[list[str]]:
        """Fields of each line; strictly, for a quote that is not closed would take all lines behind it."""
        return csv.reader(file, delimiter=self.delimiter, strict=True)

    def _header(self, lines: Iterator[list[str]]) -> list[str]:
        try:
            return [name or f"column {place}" for place, name in enumerate(next(lines, []), 1)]
        except csv.Error as error:
            raise InvalidFieldError(f"The header of {self.path.name} cannot be read: {error}.") from error

    def _row(self, number: int, header: list[str], line: list[str] | csv.Error) -> Row:
        name = f"row {number}"
        if isinstance(line, csv.Error):
            return broken(number, name, MalformedRequestError(f"The row cannot be read: {line}."))
        if len(line) != len(header):
            fault = MalformedRequestError(f"The row has {len(line)} fields where the header has {len(header)}.")
            return broken(number, name, fault)
        if any(not each.isprintable() and not _is_utf8(each) for each in line):
            return broken(number, name, MalformedRequestError("The row is not UTF-8."))
        return self.reading.row(number, dict(zip(header, line, strict=True)))


@dataclass(frozen=True, slots=True)
class JsonLinesReader:
    """An object per line; empty lines are passed over."""

    path: Path
    reading: RowReading
    kind: str = "jsonl"

    def count(self) -> int:
        """As `Reader.count`."""
        return _num_lines(self.path)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """As `Reader.rows`."""
        with self.path.open("rb") as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
            full = (line for line in lines if line.strip())
            for number, line in islice(enumerate(full), start, stop):
                yield self._row(number, line)

    def files(self) -> Sequence[Path]:
        """As `Reader.files`."""
        return [self.path]

    def types(self) -> Mapping[str, Any]:
        """None are said."""
        return {}

    def _row(self, number: int, line: bytes) -> Row:
        try:
            columns = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return broken(number, f"row {number}", MalformedRequestError(f"The line is not JSON: {error.msg}."))
        if not isinstance(columns, dict):
            return broken(number, f"row {number}", MalformedRequestError("The line is no JSON object."))
        return self.reading.row(number, columns)


def _readable(lines: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """The lines that are not empty, and what is wrong with those that cannot be read."""
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield error
            continue
        if line:
            yield line


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _num_lines(path: Path) -> int:
    """Lines with an end, which may be a carriage return alone, and what is behind the last."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            count += block.count(b"\n") + block.count(b"\r") - (last + block).count(b"\r\n")
            last = block[-1:]
    return count + (last not in (b"\n", b"\r"))
