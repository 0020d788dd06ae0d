"""The store as a process has it: on threads, kept in memory, and looked at again every second that it is asked."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeVar

import orjson
from cachetools import LRUCache
from pydantic import SecretStr

from plumbline_models.core.errors import (
    ConfigError,
    RequestTooLargeError,
    StoreUnavailableError,
    UnknownArtefactError,
)
from plumbline_serve.settings.store import store_file
from plumbline_serve.store.artefacts import Artefact, Kind

if TYPE_CHECKING:
    from plumbline_serve.store.database import Database, Key

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_AGAIN_S: Final = 1.0
"""What was read stands for so long, and that nothing could be read: another process's change is seen within 2 s."""
CALL_TIMEOUT_S: Final = 4.0
"""How long a caller waits for the database."""
NUM_THREADS: Final = 4
MAX_OF_KIND: Final = 1000
MAX_REFERENCE_SETS: Final = 64
MAX_DOCUMENT_BYTES: Final = 8 * 2**20
MAX_REFERENCE_SET_BYTES: Final = 34 * 2**20
"""4,096 encodings of 1,536 numbers, in base64 of float32."""
_MAX_OF: Final[Mapping[Kind, int]] = {"reference set": MAX_REFERENCE_SETS}
_MAX_BYTES_OF: Final[Mapping[Kind, int]] = {"reference set": MAX_REFERENCE_SET_BYTES}
CACHE_BYTES: Final = 64 * 2**20
RETRY_AFTER_S: Final = 1.0


class Store:
    """Named artefacts that all replicas share. Nothing is opened, and no file is made, before it is needed.

    Every method raises `StoreUnavailableError` where the database is full, locked or away.

    Args:
        url: As the setting has it.

    Raises:
        ConfigError: What reads PostgreSQL is not installed.
    """

    def __init__(self, url: SecretStr) -> None:
        if store_file(url) is None and find_spec("psycopg") is None:
            raise ConfigError("A store in PostgreSQL needs psycopg: pip install 'plumbline-serve[postgresql]'.")
        self._url = url
        self._opened: Database | None = None
        self._opening = threading.Lock()
        self._free = asyncio.Semaphore(NUM_THREADS)
        self._look: asyncio.Task[None] | None = None
        self._looked_at_s = float("-inf")
        self._num_changes = 0
        self._failure: StoreUnavailableError | None = None
        self._revision = -1
        self._index: Mapping[Key, int] = {}
        self._kept: LRUCache[Key, tuple[int, Artefact, int]] = LRUCache(CACHE_BYTES, lambda entry: entry[2])

    @property
    def may_hold_any(self) -> bool:
        """Whether anything can have been kept: there is a file, or another database to ask."""
        path = store_file(self._url)
        return path is None or path.expanduser().exists()

    async def get(self, kind: Kind, name: str) -> Artefact:
        """The artefact of a kind and name.

        Args:
            kind: Its kind.
            name: Its name.

        Raises:
            UnknownArtefactError: There is none.
        """
        found = await self._read([(kind, name)])
        if not found:
            raise UnknownArtefactError(f"There is no {kind} {name[:64]!r} here.")
        return found[0]

    async def all_of(self, kind: Kind) -> list[Artefact]:
        """Every artefact of a kind, by name."""
        await self._look_again()
        return await self._read(sorted(key for key in self._index if key[0] == kind))

    async def put(self, artefact: Artefact, *beside: Artefact) -> None:
        """Keep an artefact, in the place of one of its kind and name.

        Args:
            artefact: What to keep.
            beside: Kept with it, or nothing is.

        Raises:
            RequestTooLargeError: It is too large.
            TooManyArtefactsError: There are as many of its kind as are kept.
        """
        await self._change(lambda database: _put(database, (artefact, *beside)))

    async def delete(self, kind: Kind, name: str, *beside: Kind) -> None:
        """Forget an artefact.

        Args:
            kind: Its kind.
            name: Its name.
            beside: Kinds of what is kept beside it under the same name.

        Raises:
            UnknownArtefactError: There is none.
        """
        if not await self._change(lambda database: database.delete((kind, *beside), name)):
            raise UnknownArtefactError(f"There is no {kind} {name[:64]!r} here.")

    async def run(self, function: "Callable[[Database], T]") -> T:
        """Do what blocks on a thread, of which there are few: one that hangs holds nobody else up.

        Args:
            function: Given the database.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._free.acquire()
                done: Future[T] = Future()
                threading.Thread(target=self._work, args=(function, done, loop), name="store", daemon=True).start()
                return await asyncio.wrap_future(done)
        except TimeoutError as error:
            raise StoreUnavailableError(
                "The store does not answer.", retry_after_s=RETRY_AFTER_S, cause="timeout"
            ) from error

    def close(self) -> None:
        """Close the database; what is under way may fail."""
        if self._look is not None:
            self._look.cancel()
        if self._opened is not None:
            self._opened.close()

    async def _read(self, keys: "list[Key]") -> list[Artefact]:
        """The artefacts that are there, in the order of their keys."""
        await self._look_again()
        kept = {key: self._kept[key] for key in keys if key in self._index and key in self._kept}
        found = {key: artefact for key, (revision, artefact, _) in kept.items() if revision == self._index[key]}
        if missing := [key for key in keys if key in self._index and key not in found]:
            for revision, artefact, num_bytes in await self.run(lambda database: database.load(missing)):
                key = (artefact.kind, artefact.name)
                found[key] = artefact
                self._kept[key] = (revision, artefact, num_bytes)
        return [found[key] for key in keys if key in found]

    async def _look_again(self) -> None:
        """See what others changed, if nobody looked a moment ago; one look at a time, for all who wait."""
        for _ in range(2):  # a look that was under way may have missed a change of this process: the next one has not
            if time.monotonic() - self._looked_at_s < LOOK_AGAIN_S:
                break
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_now())
            await asyncio.shield(self._look)
        if self._failure is not None:
            raise StoreUnavailableError(self._failure.detail, **self._failure.facts)

    async def _look_now(self) -> None:
        num_changes, known = self._num_changes, self._revision
        try:
            found = await self.run(partial(_index, known=known))
        except StoreUnavailableError as error:
            if self._failure is None:
                log.warning("the store cannot be read: %s", error.facts.get("cause"))
            self._failure = StoreUnavailableError(error.detail, **error.facts)
        else:
            if self._failure is not None:
                log.warning("the store can be read again")
            self._failure = None
            if found is not None:
                self._revision, self._index = found
        if num_changes == self._num_changes:
            self._looked_at_s = time.monotonic()

    async def _change(self, function: "Callable[[Database], T]") -> T:
        try:
            return await self.run(function)
        except StoreUnavailableError as error:
            log.warning("the store cannot be written: %s", error.facts.get("cause"))
            raise
        finally:
            self._num_changes += 1
            self._looked_at_s = float("-inf")

    def _work(self, function: "Callable[[Database], T]", done: "Future[T]", loop: asyncio.AbstractEventLoop) -> None:
        try:
            if done.set_running_or_notify_cancel():
                done.set_result(function(self._database()))
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)
        finally:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free.release)

    def _database(self) -> "Database":
        from plumbline_serve.store.database import Database  # noqa: PLC0415 - who only scores needs no SQLAlchemy

        with self._opening:
            self._opened = self._opened or Database(self._url)
            return self._opened


def _index(database: "Database", *, known: int) -> "tuple[int, Mapping[Key, int]] | None":
    """What there is; None where nothing changed."""
    return None if database.revision() == known else database.index()


def _put(database: "Database", artefacts: Sequence[Artefact]) -> None:
    written = [(each, orjson.dumps(each.document)) for each in artefacts]
    for each, document in written:
        most = _MAX_BYTES_OF.get(each.kind, MAX_DOCUMENT_BYTES)
        if len(document) > most:
            raise RequestTooLargeError(f"The {each.kind} takes more than {most} bytes to keep.")
    database.put(written, _MAX_OF.get(artefacts[0].kind, MAX_OF_KIND))
