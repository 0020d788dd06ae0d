"""Keeps what a chatty library warns and logs off the terminal, and in our own debug log."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

logger = logging.getLogger(__name__)


class _Diversion(logging.Filter):
    """Turns what some libraries log on one thread away from a handler."""

    def __init__(self, libraries: frozenset[str]) -> None:
        super().__init__()
        self._libraries = libraries
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread or record.name.partition(".")[0] not in self._libraries:
            return True
        logger.debug("%s: %s", record.name, record.getMessage())
        return False


@contextlib.contextmanager
def quietly(*libraries: str) -> Iterator[None]:
    """Divert Python warnings, and what `libraries` log on this thread, to the debug log."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in libraries]
    handlers = {handler for name in names for handler in logging.getLogger(name).handlers}
    handlers.update(logging.root.handlers)
    diversion = _Diversion(frozenset(libraries))
    for handler in handlers:
        handler.addFilter(diversion)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(diversion)
    for warning in caught:
        logger.debug("%s: %s", warning.category.__name__, warning.message)
