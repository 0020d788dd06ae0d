"""`Plumbline`: the methods and types of the clients, on engines in this process."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from math import inf
from os import PathLike
from pathlib import Path
from sys import maxsize
from typing import Any, TypeAlias, TypeVar, Unpack

from pydantic import BaseModel

from plumbline_client import BatchReply, CallOptions, PlumblineClientError
from plumbline_client.batches import BatchLike, StreamedRequest, check_batches, check_max_in_flight
from plumbline_client.calls import Bounds, Call, Core
from plumbline_client.kept_calls import AsyncKept, SyncKept
from plumbline_client.options import Priority, Profile
from plumbline_client.requests import Request
from plumbline_models.core.errors import PlumblineError
from plumbline_serve.local.answering import LocalService, problems_of
from plumbline_serve.settings import Settings, load_settings, settings_of

T = TypeVar("T", bound=BaseModel)
Config: TypeAlias = str | PathLike[str] | Mapping[str, Any] | Settings | None
"""A YAML file, what such a file holds, or settings; None: the file of `PLUMBLINE_CONFIG`, or the embedded networks."""


class Plumbline(SyncKept):
    """Scores in this process, on one set of engines; safe to share between threads.

    Loads everything when it is made, which takes seconds, and minutes where engines are compiled for the first time.
    It is of the process that made it: what is forked from that makes its own.

    Args:
        config: What to load.
        timeout_ms: Time of a call; None: no limit.
        priority: Of every call.
        deterministic: Whether numbers of every call may not depend on what else is computed.

    Raises:
        SetupError: The configuration is wrong, or names what is not there.
    """

    def __init__(
        self,
        config: Config = None,
        *,
        timeout_ms: float | None = None,
        priority: Priority = "normal",
        deterministic: bool = False,
    ) -> None:
        profile = Profile(timeout_ms=timeout_ms, priority=priority, deterministic=deterministic)
        settings = _settings(config)
        bounds = Bounds(max_items=settings.limits.max_items, max_bytes=maxsize)
        super().__init__(Core(profile, "this process", bounds), time.sleep)
        self._service = LocalService(settings)
        self.aio = AsyncPlumbline(self._core, self._service)
        """The same methods for asyncio, on the same engines, on any event loop."""

    def __repr__(self) -> str:
        return "Plumbline()"

    def score_stream(
        self, batches: Iterable[BatchLike], *, max_in_flight: int = 8, **options: Unpack[CallOptions]
    ) -> Iterator[BatchReply]:
        """Score a long run of batches.

        Args:
            batches: Each a `Batch` or a list of items; read on this thread, as replies make room.
            max_in_flight: Batches without a reply, at most.
            options: `timeout_ms`, here of the whole run and by default without limit; `request_id`.

        Yields:
            One reply a batch, in the order in which they come.
        """
        whole, room = self._core.begin({"timeout_ms": None, **options}), check_max_in_flight(max_in_flight)
        pending: dict[Future[Any], _Streamed] = {}
        try:
            for index, batch in enumerate(check_batches(batches)):
                streamed = _Streamed(self._core, whole, batch, index)
                pending[streamed.ask(self._service)] = streamed
                yield from self._replies(pending, whole, has_room=len(pending) < room)
            while pending:
                yield from self._replies(pending, whole, has_room=False)
        finally:
            for future in pending:
                future.cancel()

    def _replies(self, pending: "dict[Future[Any], _Streamed]", whole: Call, *, has_room: bool) -> Iterator[BatchReply]:
        """What is ready; where there is no room, at least one is waited for."""
        left_s = whole.remaining_s()
        for future in wait(pending, 0 if has_room else left_s, FIRST_COMPLETED).done:
            yield pending.pop(future).reply(self._service, future)

    def _disconnect(self) -> None:
        self._service.close()

    def _attempt(self, request: Request[T], call: Call) -> T:
        with problems_of(call):
            future = self._service.ask(request, call)
            try:
                answer = future.result()
            finally:
                future.cancel()  # where this thread was interrupted; what is done stays so
            return self._service.read(request, answer, call)


class AsyncPlumbline(AsyncKept):
    """The asyncio methods of a `Plumbline`, which makes it: `plumbline.aio`.

    Args:
        core: Of the `Plumbline`.
        service: Of the `Plumbline`.
    """

    def __init__(self, core: Core, service: LocalService) -> None:
        super().__init__(core, asyncio.sleep)
        self._service = service

    def __repr__(self) -> str:
        return "Plumbline().aio"

    async def score_stream(
        self,
        batches: Iterable[BatchLike] | AsyncIterable[BatchLike],
        *,
        max_in_flight: int = 8,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[BatchReply]:
        """Score a long run of batches; see `Plumbline.score_stream`."""
        whole, room = self._begin({"timeout_ms": None, **options}), check_max_in_flight(max_in_flight)
        source, index, pending = _each(check_batches(batches)), 0, dict[asyncio.Future[Any], _Streamed]()
        coming: asyncio.Future[Any] | None = asyncio.ensure_future(_next(source))
        try:
            while coming or pending:
                awaited = {*pending, *((coming,) if coming and len(pending) < room else ())}
                done, _ = await asyncio.wait(awaited, timeout=whole.remaining_s(), return_when=asyncio.FIRST_COMPLETED)
                for future in done - {coming}:
                    yield pending.pop(future).reply(self._service, future)
                if coming is not None and coming in done:
                    if (batch := coming.result()) is None:
                        coming = None
                        continue
                    streamed = _Streamed(self._core, whole, batch, index)
                    pending[asyncio.wrap_future(streamed.ask(self._service))] = streamed
                    coming, index = asyncio.ensure_future(_next(source)), index + 1
        finally:
            for future in (*pending, *((coming,) if coming else ())):
                future.cancel()

    def _begin(self, options: CallOptions) -> Call:
        return self._core.begin(options)  # on whatever loop

    async def _disconnect(self) -> None:
        await asyncio.to_thread(self._service.close)

    async def _attempt(self, request: Request[T], call: Call) -> T:
        with problems_of(call):
            answer = await asyncio.wrap_future(self._service.ask(request, call))
            return self._service.read(request, answer, call)


class _Streamed:
    """One batch of a run.

    Args:
        core: Of the client.
        whole: The run's call.
        given: The batch.
        index: Its place in the run, from 0.
    """

    def __init__(self, core: Core, whole: Call, given: BatchLike, index: int) -> None:
        self._batch = StreamedRequest.of(given, index, core.profile)
        self._call = core.begin(
            {
                "request_id": whole.request_id,
                "timeout_ms": self._batch.timeout_ms,
                "priority": self._batch.priority,
                "deterministic": self._batch.deterministic,
            }
        )

    def ask(self, service: LocalService) -> "Future[Any]":
        """Begin to answer it; what is wrong with it stands in the future."""
        try:
            return service.ask(self._batch.request, self._call)
        except (PlumblineError, PlumblineClientError) as error:
            refused: Future[Any] = Future()
            refused.set_exception(error)
            return refused

    def reply(self, service: LocalService, answered: "Future[Any] | asyncio.Future[Any]") -> BatchReply:
        """What became of it.

        Args:
            service: That was asked.
            answered: Done.
        """
        named = self._batch.correlation_id
        try:
            with problems_of(self._call):
                return BatchReply(named, service.read(self._batch.request, answered.result(), self._call))
        except PlumblineClientError as error:
            return BatchReply(named, error=error)


def _settings(config: Config) -> Settings:
    """The settings to load; requests wait for each other as long as their callers do.

    Raises:
        ConfigError: They are not valid.
    """
    if isinstance(config, Settings):
        settings = config
    elif isinstance(config, Mapping):
        settings = settings_of(config)
    else:
        settings = load_settings(None if config is None else Path(config))
    limits = settings.limits.model_copy(update={"max_wait_ms": inf})
    return settings.model_copy(update={"limits": limits})


async def _each(batches: Iterable[BatchLike] | AsyncIterable[BatchLike]) -> AsyncIterator[BatchLike]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch


async def _next(source: AsyncIterator[BatchLike]) -> BatchLike | None:
    return await anext(source, None)
