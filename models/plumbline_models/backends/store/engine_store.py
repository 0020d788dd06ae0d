"""Compiled engines on disk: written once, whole or not at all, and read only after every byte was checked.

    <cache_dir>/engines/<digest>/manifest.json      the key's facts; sha256 and size of each artefact
                                 graph.xml, …       what the backend wrote
                        <digest>.lock               held while it is built
                        <digest>.….tmp              being written, or left by a crash

A second folder of the same layout, made by `plumbline compile --out`, may be shipped with an image.

Nothing here can stop a start: a store that cannot be read or written is a warning and a slower start.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import BrokenEntryError, flush_folder, read_facts, seal, verify

logger = logging.getLogger(__name__)
ENGINES = "engines"
"""The folder of entries within a cache, or within what is shipped."""
PATIENCE_S = 900.0  # longer than the slowest compilation seen; then two builders are better than none
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Built(Generic[T]):
    """What was just built, not stored yet.

    Args:
        write: Writes its files to an empty folder; raises OSError where they cannot be written.
        use: What `read` would give, from memory; called where nothing could be stored or read back.
    """

    write: Callable[[Path], None]
    use: Callable[[], T]


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What was found or built.

    Args:
        value: What `read` made of it.
        folder: Where it lies; None where it could not be stored.
    """

    key: EngineKey
    value: T
    folder: Path | None
    was_found: bool


class EngineStore:
    """Folders of artefacts, one per key.

    Args:
        cache_dir: Made, for the owner alone, when the first engine is stored.
        shipped_dir: A folder of the same layout that is read first and never written to.
    """

    def __init__(self, cache_dir: Path, shipped_dir: Path | None = None) -> None:
        self._root = cache_dir.expanduser() / ENGINES
        self._shipped_root = shipped_dir.expanduser() / ENGINES if shipped_dir is not None else None
        self._refused: set[Path] = set()
        self._has_warned = False

    def get_or_build(self, key: EngineKey, *, build: Callable[[], Built[T]], read: Callable[[Path], T]) -> Entry[T]:
        """Find what the key names, or build and store it; of several processes one builds and the others find it.

        An entry that is damaged, or that `read` refuses, is removed and built anew. What runs is what the next start
        will run: a new entry is read back, and served from memory only where that fails.

        Args:
            build: Called where there is no usable entry.
            read: Makes of a verified folder what is served; raises `BrokenEntryError` where that is not possible.

        Raises:
            Exception: Whatever `build` raises, or `use` of what it made.
        """
        if (found := self._find(key, read)) is not None:
            return found
        with self._lock(key):
            return self._find(key, read) or self._build(key, build=build, read=read)

    def shipped_facts(self) -> list[dict[str, object]]:
        """The keys' facts of all that was shipped, unverified, in the order of their folders."""
        folders = sorted(self._shipped_root.glob("*/")) if self._shipped_root is not None else []
        found = []
        for folder in folders:
            with contextlib.suppress(BrokenEntryError, OSError):
                found.append(read_facts(folder))
        return found

    def ships(self, key: EngineKey) -> bool:
        """Whether there is an entry of this key, whole or not, among what was shipped."""
        return self._shipped_root is not None and (self._shipped_root / key.digest).is_dir()

    @contextlib.contextmanager
    def scratch(self, key: EngineKey) -> Iterator[Path | None]:
        """A folder for what comes up on the way, gone afterwards; None where nothing at all can be written."""
        folder = self._make_scratch(key)
        try:
            yield folder
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _find(self, key: EngineKey, read: Callable[[Path], T]) -> Entry[T] | None:
        for root in (self._shipped_root, self._root):
            folder = root / key.digest if root is not None else None
            if folder is None or folder in self._refused:
                continue
            try:
                verify(folder, key)
                return Entry(key, read(folder), folder, was_found=True)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except BrokenEntryError as error:
                self._discard(folder, key, reason=str(error))
            except OSError as error:
                self._warn("read", error)
        return None

    def _build(self, key: EngineKey, *, build: Callable[[], Built[T]], read: Callable[[Path], T]) -> Entry[T]:
        graph, backend = key.facts.get("graph"), key.facts.get("backend")
        logger.info("Compiling %s with %s, for this start and those to come.", graph, backend)
        started = time.monotonic()
        built = build()
        logger.info("Compiled %s with %s in %.1f s.", graph, backend, time.monotonic() - started)
        folder = self._write(key, built.write)
        if folder is not None:
            try:
                return Entry(key, read(folder), folder, was_found=False)
            except BrokenEntryError as error:
                self._discard(folder, key, reason=str(error))
        return Entry(key, built.use(), None, was_found=False)

    def _write(self, key: EngineKey, write: Callable[[Path], None]) -> Path | None:
        """The entry, or None where it cannot be kept; `write` may then not have run, or not to its end."""
        try:
            draft = self._make_draft(key)
            try:
                write(draft)
                seal(draft, key)
                return self._publish(draft, key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            self._warn("written", error)
            return None

    def _publish(self, draft: Path, key: EngineKey) -> Path:
        folder = self._root / key.digest
        try:
            draft.rename(folder)
        except OSError:
            if (found := self._find(key, lambda whole: whole)) is not None:
                return found.value  # someone else was first, and theirs is whole
            draft.rename(folder)
        flush_folder(self._root)
        return folder

    def _discard(self, folder: Path, key: EngineKey, *, reason: str) -> None:
        """Remove an entry that is of no use; one that was shipped is passed over from now on."""
        is_own = folder.parent == self._root
        logger.warning(
            "Removing a stored engine: %s." if is_own else "Passing over a shipped engine: %s.",
            reason,
            extra={"graph": key.facts.get("graph"), "engine": key.digest, "reason": reason},
        )
        if not is_own:
            self._refused.add(folder)
            return
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
    def _lock(self, key: EngineKey) -> Iterator[None]:
        """Hold others who want the same engine back; look again once inside."""
        with contextlib.suppress(OSError):
            self._make_root()
        with hold_lock(self._root / f"{key.digest}.lock") as is_held:
            if is_held:
                self._sweep(key)
            yield

    def _sweep(self, key: EngineKey) -> None:
        """Remove what crashed builders of this engine left."""
        for left in self._root.glob(f"{key.digest}.*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(left).st_mtime > PATIENCE_S:
                    shutil.rmtree(left, ignore_errors=True)

    def _make_scratch(self, key: EngineKey) -> Path | None:
        with contextlib.suppress(OSError):
            return self._make_draft(key)
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="plumbline-"))
        return None

    def _make_draft(self, key: EngineKey) -> Path:
        self._make_root()
        return Path(tempfile.mkdtemp(prefix=f"{key.digest}.", suffix=".tmp", dir=self._root))

    def _make_root(self) -> None:
        self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.mkdir(mode=0o700, exist_ok=True)

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


@contextlib.contextmanager
def hold_lock(path: Path, *, patience_s: float = PATIENCE_S) -> Iterator[bool]:
    """Hold `path` locked, or go on without: the lock saves work, it does not protect data.

    The kernel drops the lock when its holder dies; the file stays. filelock's fallback is off: its lock is the file
    itself, which outlives a crash.

    Args:
        path: The lock's file, made where it is not there.
        patience_s: How long to wait for who holds it.

    Yields:
        Whether it is held; False where the file system refuses, or another holds it beyond the patience.
    """
    from filelock import FileLock  # noqa: PLC0415 - a warm start takes no lock, and the import takes 0.1 s

    lock = FileLock(path, timeout=patience_s, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError:  # the patience's end is one, too
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
