"""The process that `plumbline serve` is to its caller: it runs the service in a child and leaves nothing behind.

The child has a session of its own, so that a signal to the whole process group, as a terminal or a job scheduler sends
it, reaches this process alone: Ray's processes would end by it before anything is drained. What the child's processes
leave when they end becomes a child of this process, and is ended by its id. Every wait here has an end: for a child
that was told to stop, for one that cannot do its work any more, and for what either left.

Signals are bytes on a pipe that one loop reads. Their handlers do nothing, so none can interrupt another halfway, and
run on a stack that holds all that may come at once.
"""

import ctypes
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from types import FrameType
from typing import NoReturn, Protocol, TypeAlias

from plumbline_models.core.signal_stack import use_roomy_signal_stack
from plumbline_serve.machine.processes import descendants, send

log = logging.getLogger(__name__)
FAILED = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANDLED = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGCHLD)
UNREADY_STOP_S = 5.0  # nobody waits for an answer yet
LEFTOVER_GRACE_S = 5.0  # for each of SIGTERM and SIGKILL
LOOK_PERIOD_S = 0.5
POLL_S = 0.05
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Stage(IntEnum):
    """How far a service has come; it says so each time that it gets further."""

    BEGUN = 0
    STARTED = 1
    """What it needs is there."""
    READY = 2
    """Its callers are answered."""
    STOPPING = 3
    """It ends, by itself or because it was told to, and so does what it needs."""


Report: TypeAlias = Callable[[Stage], None]


class Watch(Protocol):
    """Sees whether a service can still do its work."""

    def look(self, stage: Stage) -> str | None:
        """Called about twice per second: why the service cannot go on; None where it can."""
        ...


def supervise(service: Callable[[Report], int], watch: Watch, *, stop_timeout_s: float) -> int:
    """Run a service in a child process until it ends, is told to stop or cannot go on; then end what it left.

    Args:
        service: Gets what to report its stages with, and returns the exit status; SIGTERM stops it.
        watch: Ends it where it cannot go on.
        stop_timeout_s: How long it may take to stop once it was ready and told to.

    Returns:
        Its exit status; 0 where it was told to stop before it was ready; 1 if it was ended by a signal or by force.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    use_roomy_signal_stack()
    sys.stdout.flush()
    sys.stderr.flush()
    reports, told = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reports)
        _be_the_service(lambda: service(lambda stage: _report(told, stage)), parent=own)
    os.close(told)
    try:
        with _Signals() as signals:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return _Supervision(child, watch, stop_timeout_s).run(signals, reports)
    finally:
        os.close(reports)
        _end_leftovers()


def _report(told: int, stage: Stage) -> None:
    with suppress(BrokenPipeError):  # the supervisor was killed, and SIGTERM is on its way
        os.write(told, bytes([stage]))


def _be_the_service(service: Callable[[], int], *, parent: int) -> NoReturn:
    status = FAILED
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(FAILED)  # it died before it could be noticed
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, _do_nothing)  # until the service listens to it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        status = service()
    except BaseException:
        log.exception("the service failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Signals:
    """While the context lasts, the signals that were sent can be read as bytes, in their order."""

    def __enter__(self) -> int:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        self._fd_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {number: signal.getsignal(number) for number in HANDLED}
        for number in HANDLED:
            if number != signal.SIGHUP or self._before[number] is not signal.SIG_IGN:  # as `nohup` has it
                signal.signal(number, _do_nothing)
        return self._reader

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._reader)
        os.close(self._writer)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _has_terminal() -> bool:
    """Whether there is a terminal that this command belongs to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Supervision:
    """One child, from its start to its end."""

    def __init__(self, child: int, watch: Watch, stop_timeout_s: float) -> None:
        self._child = child
        self._had_terminal = _has_terminal()
        self._watch = watch
        self._stop_timeout_s = stop_timeout_s
        self._stage = Stage.BEGUN
        self._told_at: Stage | None = None
        """How far it was when it was told to stop."""
        self._force_at: float | None = None
        """When the child is ended by force; set once it stops."""

    def run(self, signals: int, reports: int) -> int:
        """Until the child has ended or is given up.

        Args:
            signals: Bytes of signals that were sent to this process.
            reports: Bytes of the child's stages.

        Returns:
            The exit status.
        """
        sources = [signals, reports]
        while (how := self._reap()) is None:
            readable, _, _ = select.select(sources, [], [], LOOK_PERIOD_S)
            if signals in readable:
                self._heed(set(os.read(signals, 4096)))
            if reports in readable:
                if stages := os.read(reports, 4096):
                    self._reach(Stage(max(stages)))
                else:
                    sources.remove(reports)
            if (status := self._given_up()) is not None:
                send(self._child, signal.SIGKILL)
                return status
        return self._exit_status(how)

    @property
    def _was_stopped_early(self) -> bool:
        return self._told_at is not None and self._told_at < Stage.READY

    def _reach(self, stage: Stage) -> None:
        self._stage = stage
        if stage is Stage.STOPPING and self._force_at is None:
            self._force_at = time.monotonic() + self._stop_timeout_s

    def _heed(self, numbers: set[int]) -> None:
        """Stop, or have the service read its configuration anew: SIGHUP says so, unless the terminal was closed."""
        is_hangup = signal.SIGHUP in numbers
        if not numbers.isdisjoint(STOP_SIGNALS) or (is_hangup and self._had_terminal and not _has_terminal()):
            self._tell()
        elif is_hangup:
            send(self._child, signal.SIGHUP)

    def _tell(self) -> None:
        """The first signal to stop counts; the others are the same wish once more."""
        if self._force_at is None:
            self._told_at = self._stage
            patience_s = self._stop_timeout_s if self._stage is Stage.READY else UNREADY_STOP_S
            self._force_at = time.monotonic() + patience_s
            send(self._child, signal.SIGTERM)

    def _reap(self) -> int | None:
        """Wait for what has ended; how the child did, as `os.wait` has it."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._child:
                    return ended[1]
        return None

    def _given_up(self) -> int | None:
        """The exit status of a service that cannot go on, or that does not stop; None of any other."""
        if self._force_at is None:
            cause = self._watch.look(self._stage)
        elif time.monotonic() < self._force_at:
            return None
        elif self._was_stopped_early:
            return 0
        else:
            cause = "it did not stop in time."
        if cause is None:
            return None
        log.error("The service ends: %s", cause)
        return FAILED

    def _exit_status(self, how: int) -> int:
        code = os.waitstatus_to_exitcode(how)
        if self._was_stopped_early:
            return 0
        if code >= 0:
            return code
        log.error("The service was ended by %s.", signal.Signals(-code).name)
        return FAILED


def _end_leftovers() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + LEFTOVER_GRACE_S
        told: set[int] = set()
        while (left := set(descendants(os.getpid()))) and time.monotonic() < until:
            for pid in left - told:
                send(pid, number)
            told |= left
            time.sleep(POLL_S)
            _reap_all()


def _reap_all() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere what is left of a service that crashed is not ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
