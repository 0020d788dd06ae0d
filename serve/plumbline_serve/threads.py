"""Threads whose names the system knows too: `top -H`, `perf` and /proc/PID/task show what each is for."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

NAME_BYTES = 15
"""All that Linux keeps of a name."""


def named_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """As many threads, all of one name; what they start in turn inherits it, as an engine's own threads do."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix=name, initializer=_name_thread, initargs=(name,))


def _name_thread(name: str) -> None:
    """Python does it by itself from 3.14 on; where there is no /proc, the name stays Python's alone."""
    with suppress(OSError):
        comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        comm.write_bytes(name.encode()[:NAME_BYTES])
