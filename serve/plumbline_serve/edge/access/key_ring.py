"""The keys as the file has them now: looked up by digest, read again when the file changes."""

import hmac
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from plumbline_models.core.errors import ConfigError
from plumbline_serve.edge.access.keys_file import KeyEntry, digest_of, read_keys

log = logging.getLogger(__name__)

PERIOD_S = 1.0
_NOBODY = bytes(32)
_Signature: TypeAlias = tuple[int, int, int, int] | None


class KeyRing:
    """Who has which key.

    What is looked up is the digest of what the caller sent. How long that takes says something about stored digests at
    most, and no digest tells of a key; the last comparison takes the same time whatever the digests are.

    Args:
        path: The file.

    Raises:
        ConfigError: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._seen = _signature(self._path)
        self._by_digest = _by_digest(self._path)
        self._stopped = threading.Event()

    def find(self, key: str) -> KeyEntry | None:
        """Whose key it is; None: nobody's."""
        digest = digest_of(key)
        entry = self._by_digest.get(digest)
        is_known = hmac.compare_digest(digest, _NOBODY if entry is None else entry.digest)
        return entry if is_known else None

    def watch(self, period_s: float = PERIOD_S) -> None:
        """Look at the file again and again from now on, on a thread of its own."""
        threading.Thread(target=self._watch, args=(period_s,), name="keys file", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._stopped.set()

    def refresh(self) -> None:
        """Read the file if it changed; one that cannot be used is logged once, and the keys stay as they were."""
        now = _signature(self._path)
        if now == self._seen:
            return
        self._seen = now
        try:
            self._by_digest = _by_digest(self._path)
        except ConfigError as error:
            log.error("the API keys stay as they were: %s", error.detail)
        else:
            log.warning("the file of API keys was read again: %d keys", len(self._by_digest))

    def _watch(self, period_s: float) -> None:
        while not self._stopped.wait(period_s):
            self.refresh()


def _by_digest(path: Path) -> Mapping[bytes, KeyEntry]:
    return {entry.digest: entry for entry in read_keys(path)}


def _signature(path: Path) -> _Signature:
    """What changes with the file; taken before it is read, so that no change between is missed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
