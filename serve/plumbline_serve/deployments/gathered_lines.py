"""Lines of a log, written some at a time: a write, and the look whether a file is full, cost what no line does.

Each of these calls lets go of the interpreter's lock, which a busy process gets back late: at 300 requests a second,
each with a line, they took a seventh of the event loop's time.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

GATHER_S: Final = 0.1


class GatheredLines(logging.Handler):
    """Formats at once, and writes `GATHER_S` after the first line that waits; from `warning` on at once.

    Args:
        places: Handlers that write; they are given the lines as messages.
    """

    def __init__(self, places: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._places = places
        self._lines: deque[str] = deque()
        self._waiting = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._write_now_and_then, name="log", daemon=True).start()

    def createLock(self) -> None:  # noqa: N802 - named by `logging`
        """None: a line is appended whole, and nobody waits for those who write."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        try:
            self._lines.append(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of `logging`
            self.handleError(record)
            return
        if record.levelno >= logging.WARNING:
            self.flush()
        elif not self._waiting.is_set():
            self._waiting.set()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                record = logging.makeLogRecord({"name": __name__, "msg": "\n".join(lines), "levelno": logging.INFO})
                for each in self._places:
                    each.handle(record)

    def _write_now_and_then(self) -> None:
        while True:
            self._waiting.wait()
            time.sleep(GATHER_S)
            self._waiting.clear()
            self.flush()
