"""Lines of a replica's log: all of them, whole, in order, soon; warnings at once."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from plumbline_serve.deployments.gathered_lines import GatheredLines

NUM_THREADS, NUM_LINES = 8, 500


class Kept(logging.Handler):
    """Keeps what is written, a message per write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.writes.append(record.getMessage())

    @property
    def lines(self) -> list[str]:
        return [line for write in self.writes for line in write.splitlines()]

    def await_lines(self, num: int) -> None:
        end = time.monotonic() + 30
        while len(self.lines) < num and time.monotonic() < end:
            time.sleep(0.01)


@contextmanager
def gathering(*places: logging.Handler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("gathered")
    logger.setLevel(logging.INFO)
    logger.addHandler(GatheredLines(places))
    yield logger
    logger.handlers.clear()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def log(kept: Kept) -> Iterator[logging.Logger]:
    with gathering(kept) as logger:
        yield logger


def test_lines_of_many_threads_are_all_written_whole_and_each_threads_in_order(log: logging.Logger, kept: Kept) -> None:
    def write(number: int) -> None:
        for line in range(NUM_LINES):
            log.info("%d %d 100%%", number, line)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.await_lines(NUM_THREADS * NUM_LINES)
    for number in range(NUM_THREADS):
        mine = [line for line in kept.lines if line.startswith(f"{number} ")]
        assert mine == [f"{number} {line} 100%" for line in range(NUM_LINES)]
    assert len(kept.writes) < len(kept.lines) / 10


def test_a_lone_line_is_written_without_another_and_the_next_one_too(log: logging.Logger, kept: Kept) -> None:
    for number in (1, 2):
        log.info("line %d", number)
        kept.await_lines(number)
        assert kept.lines[-1] == f"line {number}"


def test_a_warning_is_there_when_the_call_returns_and_behind_what_came_before(log: logging.Logger, kept: Kept) -> None:
    log.info("first")
    log.warning("second")
    assert kept.lines == ["first", "second"]


def test_a_place_that_is_full_takes_no_lines_from_the_others(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # it would print them
    full = logging.FileHandler("/dev/full")
    with gathering(full, kept) as logger:
        logger.warning("heard")
    assert kept.lines == ["heard"]
    with suppress(OSError):
        full.close()
