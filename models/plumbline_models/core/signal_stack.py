"""The memory that signal handlers run on, which libraries exchange for stacks that are too small or freed.

Python asks for its handlers to run on the thread's alternate stack where there is one. `faulthandler`, which Ray turns
on, and OpenVINO's CPU device each set one that holds about one signal: where several come at once their frames do not
fit, and the system ends the process by SIGSEGV without a word. OpenVINO also frees its own while it is still in use.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

ROOMY_BYTES: Final = 2**18
"""Twenty signals at once, where one takes 11 KiB as with AMX registers."""
_ROOMY: Final = mmap.mmap(-1, ROOMY_BYTES)  # of this process until its end: nothing must free what a thread runs on


class _Stack(ctypes.Structure):
    """`stack_t` of Linux's signal.h."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("num_bytes", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Put this thread's stack back on leaving, whatever was done to it meanwhile; Linux only, elsewhere nothing."""
    before = _Stack()
    is_known = _sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        if is_known:
            _sigaltstack(ctypes.byref(before), None)


def use_roomy_signal_stack() -> None:
    """Give the handlers of the main thread room for many signals at once; Linux only, elsewhere nothing."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(_ROOMY))
    _sigaltstack(ctypes.byref(_Stack(start, 0, ROOMY_BYTES)), None)


def _sigaltstack(new: Any, old: Any) -> bool:
    """Whether the system did as asked."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).sigaltstack(new, old) == 0)
