"""Which reader an input has."""

import os
from pathlib import Path

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.readers.folder import FolderReader
from plumbline_serve.offline.readers.lines import CsvReader, JsonLinesReader
from plumbline_serve.offline.readers.parquet import ParquetReader
from plumbline_serve.offline.readers.reading import Reader
from plumbline_serve.offline.readers.tars import TarReader
from plumbline_serve.offline.rows import RowReading

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def open_input(path: Path, reading: RowReading) -> Reader:
    """The reader of a file or folder, seen by its name; a folder may hold Parquet files, tars, or images.

    Args:
        path: Of the input.
        reading: How columns become rows.

    Raises:
        InvalidFieldError: It is not there, or nothing that is read.
    """
    if path.is_dir():
        return _of_folder(path, reading)
    if not path.is_file():
        raise InvalidFieldError(f"There is no input {path}.")
    name = path.name.lower()
    if name.endswith(TAR_ENDINGS):
        return TarReader([path], reading)
    match path.suffix.lower():
        case ".csv":
            return CsvReader(path, reading, ",")
        case ".tsv":
            return CsvReader(path, reading, "\t")
        case ".jsonl" | ".ndjson":
            return JsonLinesReader(path, reading)
        case ".parquet":
            return ParquetReader([path], reading)
    raise InvalidFieldError(f"{path.name} is neither a folder nor .csv, .tsv, .jsonl, .parquet or .tar.")


def _of_folder(path: Path, reading: RowReading) -> Reader:
    if tables := _files(path, (".parquet",)):
        return ParquetReader(tables, reading)
    if tars := _files(path, TAR_ENDINGS):
        return TarReader(tars, reading)
    return FolderReader(path, reading)


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Files by their ending, in order; those of other names, of which there may be millions, are not looked at."""
    with os.scandir(folder) as entries:
        return sorted(Path(each) for each in entries if each.name.lower().endswith(endings) and each.is_file())
