"""A folder of images and videos, in the order of their paths; the caption of each lies beside it, as `NAME.txt`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.image_files import shown
from plumbline_serve.offline.rows import Row, RowReading, Video
from plumbline_serve.offline.videos import VIDEO_ENDINGS

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
READ_ENDINGS = IMAGE_ENDINGS | VIDEO_ENDINGS
MAX_CAPTION_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Images of a folder and of those within it; only the names of one folder at a time are in memory."""

    path: Path
    reading: RowReading
    kind: str = "folder"

    def count(self) -> int:
        """As `Reader.count`."""
        return sum(1 for _ in _images(self.path))

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """As `Reader.rows`."""
        found = islice(enumerate(_images(self.path)), start, stop)
        return (self._row(number, path) for number, path in found)

    def files(self) -> Sequence[Path]:
        """As `Reader.files`."""
        return ()

    def types(self) -> Mapping[str, Any]:
        """None are said."""
        return {}

    def _row(self, number: int, path: Path) -> Row:
        columns: dict[str, Any] = {}
        fault: InvalidFieldError | None = None
        try:
            columns[self.reading.text_column] = _caption(path.with_suffix(".txt"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            fault = InvalidFieldError(f"The caption beside the image cannot be read: {type(error).__name__}.")
        row = self.reading.row(number, columns, shown(path.relative_to(self.path)))
        if path.suffix.lower() in VIDEO_ENDINGS:
            return replace(row, video=Video(path, self.reading.num_frames), error=fault or row.error)
        return replace(row, image=path, error=fault or row.error)


def _images(folder: Path) -> Iterator[Path]:
    folders: set[str] = set()
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or os.path.splitext(entry.name)[1].lower() in READ_ENDINGS:  # noqa: PTH122 - millions of names
                names.append(entry.name)
            if is_folder:
                folders.add(entry.name)
    for name in sorted(names):
        if name in folders:
            yield from _images(folder / name)
        else:
            yield folder / name


def _caption(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_CAPTION_BYTES)
    return data.decode("utf-8-sig").strip()
