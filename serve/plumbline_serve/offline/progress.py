"""How far a run is: a bar where stderr is a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 10.0
ROWS, SETS = "rows", "sets measured"
"""What is counted."""


class Meter(Protocol):
    """Hears of rows."""

    def advance(self, num_rows: int, num_failed: int) -> None:
        """Rows are done.

        Args:
            num_rows: Further ones.
            num_failed: Of them.
        """
        ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


class BarMeter:
    """A bar with rate, time left and failures.

    Args:
        bar: To be shown.
        total: Rows in all; None: not known.
        done: Rows of a run before.
    """

    def __init__(self, bar: Progress, total: int | None, done: int) -> None:
        self._bar = bar
        self._failed = 0
        self._task = bar.add_task("", total=total, completed=done, failed=0)

    def advance(self, num_rows: int, num_failed: int) -> None:
        """As `Meter.advance`."""
        self._failed += num_failed
        self._bar.update(self._task, advance=num_rows, failed=self._failed)


class LineMeter:
    """Plain lines, which a log can hold.

    Args:
        total: Rows in all; None: not known.
        done: Rows of a run before.
        what: It is that is counted.
        write: Takes a line.
        clock: Seconds.
    """

    def __init__(
        self,
        total: int | None,
        done: int,
        *,
        what: str = ROWS,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201 - progress
        self._clock = clock
        self._what = what
        self._total = total
        self._before = self._done = done
        self._failed = 0
        self._started_s = self._said_s = clock()

    def advance(self, num_rows: int, num_failed: int) -> None:
        """As `Meter.advance`."""
        self._done += num_rows
        self._failed += num_failed
        now_s = self._clock()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            self._write(self.line(now_s))

    def line(self, now_s: float) -> str:
        """What is said at a time."""
        rate = (self._done - self._before) / max(now_s - self._started_s, 1e-9)
        of = "" if self._total is None else f" of {self._total:,}"
        left = ""
        if self._total is not None and rate > 0 and self._total > self._done:
            left = f", {_duration((self._total - self._done) / rate)} left"
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{self._done:,}{of} {self._what}, {rate:,.1f}/s{left}{failed}"

    def close(self) -> None:
        """Say the last."""
        self._write(self.line(self._clock()))


@contextmanager
def metered(total: int | None, done: int, what: str = ROWS) -> Iterator[Meter]:
    """What shows how far a run is, for as long as it lasts.

    Args:
        total: Rows in all; None: not known.
        done: Rows of a run before.
        what: It is that is counted.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn(("{task.completed:,.0f} of {task.total:,.0f} " if total else "{task.completed:,.0f} ") + what),
            BarColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]:,} failed"),
        )
        with Progress(*columns, console=console) as bar:
            yield BarMeter(bar, total, done)
        return
    meter = LineMeter(total, done, what=what)
    yield meter
    meter.close()


@contextmanager
def unshown(total: int | None, done: int = 0, what: str = ROWS) -> Iterator[Meter]:
    """As `metered`, for those who want to see nothing."""
    yield LineMeter(total, done, what=what, write=lambda _: None)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
