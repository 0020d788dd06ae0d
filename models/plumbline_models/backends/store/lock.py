"""A lock between processes that a crashed holder gives back by itself."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 900.0  # longer than the slowest compilation seen; then two builders are better than none
_POLL_S = 0.05


@contextlib.contextmanager
def file_lock(path: Path, *, patience_s: float = PATIENCE_S) -> Iterator[bool]:
    """Hold `path` locked, or go on without: the lock saves work, it does not protect data.

    The kernel drops the lock when its holder dies. The file stays: unlinking it would let two holders in.

    Yields:
        Whether it is held; False where the file system refuses, or another holds it beyond the patience.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        is_held = _acquire(descriptor, patience_s)
        try:
            yield is_held
        finally:
            if is_held:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        except OSError:
            return False
        else:
            return True
