"""The process that `plumbline serve` is to its caller: it runs the service in a child and leaves nothing behind.

The child has a session of its own, so that a signal to the whole process group, as a terminal or a job scheduler sends
it, reaches this process alone: Ray's processes would end by it before anything is drained. What the child's processes
leave when they end becomes a child of this process, and is ended by its id.
"""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

log = logging.getLogger(__name__)
FAILED = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LEFTOVER_GRACE_S = 5.0  # for each of SIGTERM and SIGKILL
POLL_S = 0.05
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def supervise(service: Callable[[], int], *, stop_timeout_s: float) -> int:
    """Run a service in a child process until it ends, handing on signals to stop; then end what it left.

    Args:
        service: Returns the exit status; SIGTERM stops it.
        stop_timeout_s: How long it may take to stop once it was told to.

    Returns:
        Its exit status, or 1 if it was ended by a signal or by force.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    child = os.fork()
    if child == 0:
        _be_the_service(service)
    before = _hand_signals_on(child, stop_timeout_s)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        return _exit_status(_await(child))
    finally:
        signal.alarm(0)
        _end_leftovers()
        for number, handler in before.items():
            signal.signal(number, handler)


def _be_the_service(service: Callable[[], int]) -> NoReturn:
    status = FAILED
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        status = service()
    except BaseException:
        log.exception("the service failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _hand_signals_on(child: int, stop_timeout_s: float) -> dict[int, Any]:
    """Install the handlers; the first signal to stop counts, the others are the same wish once more.

    Returns:
        The handlers before.
    """
    was_told = False

    def tell(*_: object) -> None:
        nonlocal was_told
        if not was_told:
            was_told = True
            signal.setitimer(signal.ITIMER_REAL, stop_timeout_s)
            _send(child, signal.SIGTERM)

    def force(*_: object) -> None:
        log.warning("the service did not stop in time and is ended by force")
        _send(child, signal.SIGKILL)

    handlers = dict.fromkeys(STOP_SIGNALS, tell) | {signal.SIGALRM: force}
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


def _await(child: int) -> int:
    """Wait for the child, and meanwhile for whatever else ends.

    Returns:
        How it ended, as `os.wait` has it.
    """
    while True:
        ended, how = os.wait()
        if ended == child:
            return how


def _exit_status(how: int) -> int:
    code = os.waitstatus_to_exitcode(how)
    if code >= 0:
        return code
    log.warning("the service was ended by %s", signal.Signals(-code).name)
    return FAILED


def _end_leftovers() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + LEFTOVER_GRACE_S
        told: set[int] = set()
        while (left := _descendants()) and time.monotonic() < until:
            for pid in left - told:
                _send(pid, number)
            told |= left
            time.sleep(POLL_S)
            _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants() -> set[int]:
    """Every process below this one, those that ended and that nobody waited for among them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])  # behind a name that may hold anything
    found: set[int] = set()
    wave = {os.getpid()}
    while wave := {pid for pid, parent in parents.items() if parent in wave}:
        found |= wave
    return found


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere what is left of a service that crashed is not ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
