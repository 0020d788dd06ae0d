"""The engine cache on disk: written once, whole or not at all, and read only after every byte was checked.

    <cache_dir>/engines/<digest>/manifest.json      the key's facts; sha256 and size of each artefact
                                 graph.xml, …       what the backend wrote
                        <digest>.lock               held while it is built
                        <digest>.….tmp              being written, or left by a crash

A second folder of the same layout, made by `plumbline compile --out`, may be shipped with an image.

Nothing here can stop a start: a cache that cannot be read or written is a warning and a slower start.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.lock import PATIENCE_S, file_lock
from plumbline_models.backends.store.manifest import BrokenEntryError, flush_folder, seal, verify

logger = logging.getLogger(__name__)
ENGINES = "engines"
"""The folder of entries within a cache, or within what is shipped."""


class EngineCache:
    """Folders of artefacts, one a key.

    Args:
        cache_dir: Made, for the owner alone, when the first engine is stored.
        shipped_dir: A folder of the same layout that is read first and never written to.
    """

    def __init__(self, cache_dir: Path, shipped_dir: Path | None = None) -> None:
        self._root = cache_dir.expanduser() / ENGINES
        self._shipped_root = shipped_dir.expanduser() / ENGINES if shipped_dir is not None else None
        self._refused: set[str] = set()
        self._has_warned = False

    def load(self, key: EngineKey) -> Path | None:
        """The verified folder of an engine, or None; what is broken is removed, or passed over where it was shipped."""
        return self._load_shipped(key) or self._load_own(key)

    def _load_shipped(self, key: EngineKey) -> Path | None:
        if self._shipped_root is None or key.digest in self._refused:
            return None
        folder = self._shipped_root / key.digest
        try:
            verify(folder, key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (BrokenEntryError, OSError) as error:
            self._refuse(key, str(error))
            return None
        return folder

    def _refuse(self, key: EngineKey, reason: str) -> None:
        """Pass a shipped engine over from now on."""
        self._refused.add(key.digest)
        logger.warning(
            "Passing over a shipped engine: %s.",
            reason,
            extra={"graph": key.facts.get("graph"), "engine": key.digest, "reason": reason},
        )

    def _load_own(self, key: EngineKey) -> Path | None:
        folder = self._root / key.digest
        try:
            verify(folder, key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except BrokenEntryError as error:
            self.discard(key, str(error))
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        return folder

    def store(self, key: EngineKey, write: Callable[[Path], None]) -> Path | None:
        """Keep what `write` puts into the folder that it is given.

        Returns:
            The entry, or None where it cannot be kept; `write` may then not have run, or not to its end.
        """
        folder = self._root / key.digest
        try:
            draft = self._make_draft(key)
            try:
                write(draft)
                seal(draft, key)
                self._publish(draft, key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            self._warn("written", error)
            return None
        return folder

    def discard(self, key: EngineKey, reason: str) -> None:
        """Remove an engine that turned out to be unusable; the next start builds it anew."""
        if self._load_shipped(key) is not None:
            self._refuse(key, reason)
            return
        logger.warning(
            "Removing a cached engine: %s.",
            reason,
            extra={"graph": key.facts.get("graph"), "engine": key.digest, "reason": reason},
        )
        folder = self._root / key.digest
        try:
            # Moved first: nobody may find half of it, and who has it mapped keeps it.
            trash = Path(tempfile.mkdtemp(prefix=f"{key.digest}.", suffix=".tmp", dir=self._root))
            try:
                folder.rename(trash / "broken")
            finally:
                shutil.rmtree(trash)
        except FileNotFoundError:
            return  # another process was faster
        except OSError as error:
            self._warn("cleaned", error)

    @contextlib.contextmanager
    def building(self, key: EngineKey) -> Iterator[None]:
        """Hold others who want the same engine back until it is stored; look again once inside."""
        with contextlib.suppress(OSError):
            self._make_root()
        with file_lock(self._root / f"{key.digest}.lock") as is_held:
            if is_held:
                self._sweep(key)
            yield

    @contextlib.contextmanager
    def scratch(self, key: EngineKey) -> Iterator[Path | None]:
        """A folder for what comes up on the way, gone afterwards; None where nothing at all can be written."""
        folder = self._make_scratch(key)
        try:
            yield folder
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _make_scratch(self, key: EngineKey) -> Path | None:
        with contextlib.suppress(OSError):
            return self._make_draft(key)
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="plumbline-"))
        return None

    def _make_draft(self, key: EngineKey) -> Path:
        self._make_root()
        return Path(tempfile.mkdtemp(prefix=f"{key.digest}.", suffix=".tmp", dir=self._root))

    def _publish(self, draft: Path, key: EngineKey) -> None:
        folder = self._root / key.digest
        try:
            draft.rename(folder)
        except OSError:
            if self.load(key) is not None:
                return  # someone else was first, and theirs is whole
            draft.rename(folder)
        flush_folder(self._root)

    def _make_root(self) -> None:
        self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.mkdir(mode=0o700, exist_ok=True)

    def _sweep(self, key: EngineKey) -> None:
        for left in self._root.glob(f"{key.digest}.*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(left).st_mtime > PATIENCE_S:
                    shutil.rmtree(left, ignore_errors=True)

    def _warn(self, action: str, error: OSError) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        logger.log(
            level,
            "The engine cache cannot be %s, engines are compiled at every start: %s.",
            action,
            error.strerror or error,
            extra={"cache_dir": str(self._root)},
        )
