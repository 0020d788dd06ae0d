"""The files that `plumbline score` was given: named, read, and cut into requests."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError, PlumblineError


@dataclass(frozen=True, slots=True)
class File:
    """One file, read; with an error in place of its bytes where that failed."""

    name: str
    """The path as UTF-8; bytes that are none are written as `\\xff`."""
    data: bytes = b""
    error: PlumblineError | None = None


@dataclass(slots=True)
class Cutter:
    """Cuts files into chunks; the bounds may be lowered on the way, where a server turns out to take less.

    Only one chunk is in memory. A file above the bound of bytes makes a chunk of its own.
    """

    max_items: int
    max_bytes: int
    max_file_bytes: int

    def cut(self, paths: Sequence[Path]) -> Iterator[list[File]]:
        """Read the files in order, as many at a time as the bounds allow."""
        chunk: list[File] = []
        num_bytes = 0
        for path in paths:
            file = read(path, self.max_file_bytes)
            if chunk and (len(chunk) >= self.max_items or num_bytes + len(file.data) > self.max_bytes):
                yield chunk
                chunk, num_bytes = [], 0
            chunk.append(file)
            num_bytes += len(file.data)
        if chunk:
            yield chunk

    def learn(self, refused: Sequence[File], code: str) -> None:
        """Lower the bound that a server refused a chunk for.

        Args:
            refused: The chunk.
            code: The code of the server's error.
        """
        if code == "too_many_items":
            self.max_items = min(self.max_items, len(refused) // 2)
        else:
            self.max_bytes = min(self.max_bytes, sum(len(file.data) for file in refused) // 2)


def read(path: Path, max_bytes: int) -> File:
    """Read a file, or the pipe that a shell puts in a file's place; nothing waits for a pipe without a writer.

    Args:
        path: As it was typed.
        max_bytes: More are not read.
    """
    name = os.fsencode(path).decode(errors="backslashreplace")
    try:
        data = _bytes_of(path, max_bytes + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return File(name, error=ImageUndecodableError(f"The file {name} cannot be read: {reason}."))
    if len(data) > max_bytes:
        return File(name, error=ImageTooLargeError(f"The file {name} has more than {max_bytes} bytes."))
    return File(name, data)


def _bytes_of(path: Path, num_bytes: int) -> bytes:
    with open(path, "rb", opener=_open) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "Is a device")  # which may have no end
        os.set_blocking(file.fileno(), True)
        return file.read(num_bytes)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
