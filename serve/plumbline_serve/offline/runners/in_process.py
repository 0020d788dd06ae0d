"""Rows scored by engines in this process, without Ray and without sockets."""

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, closing
from typing import Any, Self, TypeAlias, TypeVar

import orjson

from plumbline_models.core.errors import InvalidFieldError, PlumblineError, UnknownScorerError
from plumbline_models.core.protocols import Scorer
from plumbline_serve.assembly import assembled
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.edge.rest.replies import score_document, write_json
from plumbline_serve.messages import EncodedImage, ImageSource, Item, ScoreRequest, UrlImage
from plumbline_serve.messages.decisions import CLASSIFIER_PREFIX
from plumbline_serve.offline.facts import Described, RunFacts
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.rows import Picture, Row, Url
from plumbline_serve.offline.runners.chunks import ChunkBounds, Document, Scored, failure, joined, readable
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.classifying import Classifiers
from plumbline_serve.requests.embedding import towers
from plumbline_serve.requests.scored_members import SetMember
from plumbline_serve.requests.service import CoreService
from plumbline_serve.requests.validation import Checks
from plumbline_serve.settings import Settings
from plumbline_serve.store import Store

T = TypeVar("T")
Answers: TypeAlias = tuple[Sequence[Document], Sequence[SetMember | None]]
"""Results of rows and the same rows as members of a set, or no members."""
IN_FLIGHT = 4
"""Requests under way: while one is encoded, the next is decoded, and a third is read."""
PATIENCE_MS = 1e9  # nobody waits for a row; one that had to wait long is no overload


class InProcessRunner:
    """Engines on a thread with an event loop of its own; a context manager.

    Args:
        settings: How; scorers that are not asked for are not loaded.
        scorers: By name; None: all that are configured.
        makes_members: Whether rows come back as members of a set as well.

    Raises:
        PlumblineError: When it is entered: the configuration cannot work, or there is no such scorer, or none with the
            encoders that a set needs.
    """

    def __init__(
        self, settings: Settings, scorers: Sequence[str] | None = None, *, makes_members: bool = False
    ) -> None:
        limits = settings.limits.model_copy(update={"max_wait_ms": PATIENCE_MS})
        batching = settings.batching.model_copy(update={"adaptive": False})  # nobody minds waits here
        self._settings = settings.model_copy(update={"limits": limits, "batching": batching})
        self._names = scorers
        self._makes_members = makes_members
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plumbline-offline", daemon=True)
        self._stack = AsyncExitStack()
        self._service: CoreService | None = None
        self._facts = RunFacts()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._open()).result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._stack.aclose()).result()
        finally:
            self._stop()

    @property
    def facts(self) -> RunFacts:
        """As `Runner.facts`."""
        return self._facts

    @property
    def bounds(self) -> ChunkBounds:
        """How much one request may hold here."""
        limits = self._settings.limits
        usual = ChunkBounds(int(limits.max_image_bytes))
        return ChunkBounds(
            int(limits.max_image_bytes),
            min(usual.max_rows, limits.max_items),
            min(usual.max_bytes, int(limits.max_request_bytes)),
            limits.max_questions,
            limits.max_frames,
        )

    def score_from(self, reader: Reader, start: int) -> Iterator[Scored]:
        """As `Runner.score_from`."""
        return self.score(reader.rows(start))

    def score(self, rows: Iterable[Row]) -> Iterator[Scored]:
        """The results of rows, in their order.

        Args:
            rows: Read as results are taken.
        """
        under_way: deque[tuple[list[Row], Future[Answers]]] = deque()
        try:
            for chunk in self.bounds.cut(rows):
                under_way.append((chunk, self._run(self._score(readable(chunk)))))
                if len(under_way) >= IN_FLIGHT:
                    yield from _finished(under_way)
            while under_way:
                yield from _finished(under_way)
        finally:
            for _, future in under_way:
                future.cancel()

    async def _open(self) -> None:
        settings, names = self._settings, self._names
        with closing(Store(settings.store)) as store:
            kept = Classifiers(store, Bindings.of(settings.images))
            scorers = make_scorers(settings)
            if names is not None:
                scorers = await scorers_for(names, scorers, Checks(settings.limits, scorers), kept)
            service = (await self._stack.enter_async_context(assembled(settings, scorers))).service
            await kept.beside(service.pipeline, names or ())  # refuses what was made with other weights
        facts = Described(await service.named_scorers(), await service.encoders(), names).facts()
        encoder = towers(service.pipeline, None)[0].key if self._makes_members else ""
        self._facts = facts.model_copy(update={"set_encoder": encoder})
        self._service = service

    async def _score(self, rows: Sequence[Row]) -> Answers:
        """The results of rows; where they are too many for one request, of each half."""
        if not rows or self._service is None:
            return [], []
        request = ScoreRequest([_item(row) for row in rows], scorers=self._names, priority="batch")
        try:
            if self._makes_members:
                reply, members = await self._service.score_as_set(request)
            else:
                reply, members = await self._service.score(request), ()
        except PlumblineError as error:
            if len(rows) == 1:
                return [failure(rows[0], error)], [None]
            middle = len(rows) // 2
            halves = [await self._score(part) for part in (rows[:middle], rows[middle:])]
            return [result for half in halves for result in half[0]], [each for half in halves for each in half[1]]
        results: list[Document] = orjson.loads(write_json(score_document(reply)))["results"]
        return results, members

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def scorers_for(
    names: Sequence[str], scorers: Mapping[str, Scorer], checks: Checks, kept: Classifiers
) -> dict[str, Scorer]:
    """The scorers that have to be loaded for those that are named.

    Args:
        names: Of scorers, classifiers among them.
        scorers: That are configured, by name.
        checks: Over them.
        kept: The classifiers of the store.

    Returns:
        By name; for a classifier the first that reads the encoder that it was made with.

    Raises:
        UnknownScorerError: One is not configured, or a classifier is of an encoder that none of these reads.
        UnknownArtefactError: The store has no such classifier.
        StoreUnavailableError: It cannot be read.
    """
    is_kept = {name: name.startswith(CLASSIFIER_PREFIX) for name in names}
    loaded = [name for name in names if not is_kept[name]]
    chosen = {each.info.name: each for each in (checks.scorers(loaded) or [])} if loaded else {}
    for name in (name for name in names if is_kept[name]):
        key = await kept.encoder_key(name.removeprefix(CLASSIFIER_PREFIX))
        readers = (each for each in (*chosen.values(), *scorers.values()) if each.image and each.image.key == key)
        if (reader := next(readers, None)) is None:
            raise UnknownScorerError(f"{name} was made with {key}, which no configured scorer reads.")
        chosen[reader.info.name] = reader
    return chosen


def _finished(under_way: deque[tuple[list[Row], Future[Answers]]]) -> Iterator[Scored]:
    chunk, future = under_way[0]
    answers = future.result()
    under_way.popleft()
    yield from joined(chunk, *answers)


def _item(row: Row) -> Item:
    return Item(
        id=str(row.number),
        image=_source(row.image),
        frames=[source for each in row.frames if (source := _source(each)) is not None],
        pool=row.pool,
        text=row.text,
        references=row.references,
        reference_image=_source(row.reference_image),
        phrases=row.phrases,
        questions=row.questions,
    )


def _source(picture: Picture | None) -> ImageSource | None:
    match picture:
        case None:
            return None
        case bytes():
            return EncodedImage(picture)
        case Url(address=address):
            return UrlImage(address)
    raise InvalidFieldError("The image was not read.")
