"""Files of images, read whole and within a bound."""

import errno
import os
import stat
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


def shown(path: Path) -> str:
    """A path as UTF-8, whatever bytes it has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read(path: Path, max_bytes: int) -> File:
    """Read a file, or the pipe that a shell puts in a file's place; nothing waits for a pipe without a writer.

    Args:
        path: As it was typed.
        max_bytes: More are not read.
    """
    name = shown(path)
    try:
        data = _bytes_of(path, max_bytes + 1)
    except (OSError, ValueError) as error:  # a ValueError: the name holds a null byte
        reason = getattr(error, "strerror", None) or type(error).__name__
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
