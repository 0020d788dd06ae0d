"""Files that hold secrets: nobody but their owner may use them."""

import os
import stat
from pathlib import Path

from plumbline_models.core.errors import ConfigError

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_private(file: int | Path, what: str, path: Path) -> None:
    """See that nobody but its owner can read, write or run a file.

    Args:
        file: Its descriptor, or where it is.
        what: What the error calls it.
        path: Where it is, for the error.

    Raises:
        ConfigError: Others can, or it is not there.
    """
    try:
        mode = stat.S_IMODE(os.stat(file).st_mode)  # noqa: PTH116 - of a descriptor as well
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}.", path=str(path)) from error
    if mode & OTHERS:
        raise ConfigError(
            f"{what} can be used by others than its owner (mode {mode:04o}): chmod 600 {path}.", path=str(path)
        )


def write_private(path: Path, text: str) -> None:
    """Write a file that is not there yet, and that nobody but its owner can use at any moment.

    Args:
        path: Where.
        text: What.

    Raises:
        OSError: It is there, or cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
