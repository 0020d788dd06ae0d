"""Tars of samples: members that share their path up to the first dot of the name are one row.

The layout of the webdataset library. `.jpg` and the like are the image, `.mp4` and the like a video, `.txt` is the
text, `.json` holds columns, and other members pass through as text where they are UTF-8. A name that begins with a dot,
or has no ending, is none of a sample.
"""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from plumbline_models.core.errors import ImageTooLargeError, MalformedRequestError
from plumbline_serve.offline.readers.folder import IMAGE_ENDINGS, READ_ENDINGS
from plumbline_serve.offline.rows import TEXT_COLUMN, Row, RowReading, broken

MAX_MEMBER_BYTES = 2**28
"""A larger member is an error of its row, and not read."""
Sample = list[tuple[str, tarfile.TarInfo]]
"""Members of one row by their endings."""


@dataclass(frozen=True, slots=True)
class TarReader:
    """One tar or several, one behind the other; nothing is unpacked to the disk."""

    paths: Sequence[Path]
    reading: RowReading
    kind: str = "tar"

    def count(self) -> int | None:
        """As `Reader.count`; unknown of compressed ones, which would have to be unpacked twice."""
        if any(path.suffix.lower() != ".tar" for path in self.paths):
            return None
        return sum(1 for path in self.paths for _ in _samples(path))

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """As `Reader.rows`; where a tar is damaged, a broken row says so, and the next tar goes on."""
        number = 0
        for path in self.paths:
            for archive, key, sample in _samples(path):
                if stop is not None and number >= stop:
                    return
                if number >= start:
                    yield self._row(number, key, archive, sample)
                number += 1

    def files(self) -> Sequence[Path]:
        """As `Reader.files`."""
        return self.paths

    def types(self) -> Mapping[str, Any]:
        """None are said."""
        return {}

    def _row(self, number: int, key: str, archive: tarfile.TarFile | None, sample: Sample) -> Row:
        if archive is None:
            return broken(number, key, MalformedRequestError(f"The tar {key} is damaged from here on."))
        name = key
        try:
            picture = self._picture(sample)
            name = key if picture is None else picture.name
            columns = self._columns(
                {ending: _data(archive, member) for ending, member in sample if _kind(ending) not in READ_ENDINGS}
            )
            if picture is not None:
                data, is_image = _data(archive, picture), _kind(picture.name.lower()) in IMAGE_ENDINGS
                columns[self.reading.image_column] = data if is_image else {"bytes": data, "path": picture.name}
        except (MalformedRequestError, ImageTooLargeError) as error:
            return broken(number, name, error)
        except (tarfile.TarError, OSError, EOFError, ValueError):
            return broken(number, name, MalformedRequestError("The member of the tar is damaged."))
        return self.reading.row(number, {"key": key, **columns}, name)

    def _picture(self, sample: Sample) -> tarfile.TarInfo | None:
        """The member that is scored: that of the ending that is asked for, else of `.jpg` before `.mask.jpg`.

        Raises:
            MalformedRequestError: There are several.
        """
        found = [(ending, member) for ending, member in sample if _kind(ending) in READ_ENDINGS]
        for is_meant in (lambda ending: ending == self.reading.image_column, lambda ending: "." not in ending, bool):
            meant = [member for ending, member in found if is_meant(ending)]
            if len(meant) > 1:
                raise MalformedRequestError(f"The sample has several images: {', '.join(each.name for each in meant)}.")
            if meant:
                return meant[0]
        return None

    def _columns(self, members: Mapping[str, bytes]) -> dict[str, Any]:
        """What members say by their endings; of those that stand for image and text, `.json` has `json.NAME`."""
        image, text = self.reading.image_column, self.reading.text_column
        columns = {f"json.{name}" if name == image else name: value for name, value in _document(members).items()}
        for ending, data in members.items():
            if ending == "txt":
                if text in columns and text != TEXT_COLUMN:  # it is asked for by its name
                    continue
                columns |= {f"json.{text}": columns[text]} if text in columns else {}
                columns[text] = _caption(data)
            elif ending != "json":
                columns |= _as_text(ending, data)
        return columns


def _samples(path: Path) -> Iterator[tuple[tarfile.TarFile | None, str, Sample]]:
    """The samples of a tar by their keys; at last, where it is damaged, none with its name."""
    try:
        with tarfile.open(path, "r:*") as archive:
            key, sample = "", Sample()
            for member in archive:
                _forget(archive)
                if not member.isreg():
                    continue
                stem, ending = _split(member.name)
                if not stem or not ending:
                    continue
                if sample and stem != key:
                    yield archive, key, sample
                    sample = []
                key = stem
                sample.append((ending, member))
            if sample:
                yield archive, key, sample
            if not _is_ended(archive):
                yield None, path.name, []
    except (tarfile.TarError, OSError, EOFError):
        yield None, path.name, []


def _forget(archive: Any) -> None:
    """Drop the members that were seen: tarfile keeps them, of millions too much. Its stubs do not name the list."""
    archive.members.clear()


def _is_ended(archive: tarfile.TarFile) -> bool:
    """Whether empty blocks follow, as behind a whole tar; tarfile ends at a damaged header as if it were the end."""
    file = archive.fileobj
    if file is None:
        return True
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    return len(block) == tarfile.BLOCKSIZE and not block.strip(b"\0")


def _split(name: str) -> tuple[str, str]:
    """The key and the ending of a member; of a hidden file, or one without an ending, one is empty."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem) if stem else "", ending.lower()


def _kind(ending: str) -> str:
    return f".{ending.rpartition('.')[2]}"


def _document(members: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        found = orjson.loads(members.get("json", b"{}"))
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError("The member .json of the tar is not JSON.") from error
    if not isinstance(found, dict):
        raise MalformedRequestError("The member .json of the tar holds no object.")
    return found


def _caption(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise MalformedRequestError("The member .txt of the tar is not UTF-8.") from error


def _as_text(ending: str, data: bytes) -> dict[str, str]:
    try:
        return {ending: data.decode()}
    except UnicodeDecodeError:
        return {}


def _data(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_MEMBER_BYTES:
        raise ImageTooLargeError(f"The member of the tar has more than {MAX_MEMBER_BYTES} bytes.")
    file = archive.extractfile(member)
    return b"" if file is None else file.read()
