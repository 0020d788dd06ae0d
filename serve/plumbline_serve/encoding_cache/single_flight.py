"""Single flight: an encoding is stored, in flight for another caller, or the asking caller's to compute.

    claim = cache.claim(keys, context)
    if claim.mine:
        claim.start(work())  # which computes the encodings of `claim.mine` and then calls `claim.publish`
    encodings = await claim.encodings()

Work in flight does not belong to the caller that started it: it goes on while anyone waits for it. A caller joins only
work whose deadline is no earlier than its own, that is no less urgent, and that is not much larger than its own: all of
it is done before any of it is handed out, and one image would wait for the 256 of another. What stops that work as a
whole (a full queue, say) is raised for the caller that started it alone; the others claim what is missing once more.
Errors of single inputs are shared with those who wait, and never stored.

What is encoded alone (`EncodingKey.is_alone`) has keys of its own, so that a request that asks for it is handed nothing
that was made in a batch.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import EncoderKind, Encoding
from plumbline_serve.encoding_cache.store import EncodingKey, EncodingOrError, EncodingStore, alone
from plumbline_serve.scheduling.request_context import PRIORITIES, RequestContext

MANY, MUCH_LARGER = 32, 2
"""Encodings that nobody waits long for, and times as many as a caller wants: work on more is not joined."""
LookupResult: TypeAlias = Literal["hit", "joined", "miss"]
"""Stored, in flight for another caller, or to be computed."""
Encodings: TypeAlias = Mapping[EncodingKey, EncodingOrError]


class LookupObserver(Protocol):
    """What the cache tells the metrics."""

    def lookup(self, cache: str, result: LookupResult, num_lookups: int) -> None:
        """Encodings were looked up.

        Args:
            cache: Their kind.
            result: Where they were.
            num_lookups: How many.
        """
        ...

    def kept(self, cache: str, num_bytes: int) -> None:
        """The room that stored encodings take has changed.

        Args:
            cache: Their kind.
            num_bytes: What all of the kind take now.
        """
        ...


class EncodingCache:
    """All encodings of one process; bound to one event loop.

    Args:
        store: Keeps what was computed.
        observer: Hears of every look-up.
    """

    def __init__(self, store: EncodingStore, observer: LookupObserver) -> None:
        self._store = store
        self._observer = observer
        self._in_flight: dict[EncodingKey, _InFlight] = {}

    def claim(self, keys: Sequence[EncodingKey], context: RequestContext) -> "Claim":
        """Look up encodings, and claim those that are neither stored nor in flight.

        Args:
            keys: Distinct, of one kind, at least one.
            context: The request's, which may claim several times; it bounds the work that the request starts.

        Returns:
            A claim on all of them; where some are the caller's to compute, it must start the work at once.
        """
        found = self._found(keys)
        size = len(keys) - len(found)
        joined = {key: work for key in keys if key not in found and (work := self._joinable(key, context, size))}
        mine = [key for key in keys if key not in found and key not in joined]
        self._count(keys[0].kind, {"hit": len(found), "joined": len(joined), "miss": len(mine)})
        own = _InFlight(mine, context) if mine else None
        self._in_flight.update((key, own) for key in mine if own)
        return Claim(self, found, joined, own=own, context=context)

    def stored(self, keys: Sequence[EncodingKey]) -> dict[EncodingKey, Encoding]:
        """Those of the encodings that are stored; none is claimed, and none in flight is waited for.

        Args:
            keys: Distinct, of one kind, at least one.
        """
        found = self._found(keys)
        self._count(keys[0].kind, {"hit": len(found), "miss": len(keys) - len(found)})
        return found

    def missing(self, keys: Iterable[EncodingKey], context: RequestContext) -> list[EncodingKey]:
        """The encodings that a request would have to compute: those that are neither stored nor in flight.

        Args:
            keys: Distinct.
            context: The request's.
        """
        lacking = [key for key in keys if not self._has(key)]
        return [key for key in lacking if self._joinable(key, context, len(lacking)) is None]

    def store(self, encodings: Encodings) -> None:
        """Keep what was computed, errors excepted."""
        for key, encoding in encodings.items():
            if not isinstance(encoding, PlumblineError):
                self._store.put(key, encoding)
        kinds: set[EncoderKind] = {key.kind for key in encodings}
        for kind in kinds:
            self._observer.kept(kind, self._store.num_bytes(kind))

    def forget(self, work: "_InFlight") -> None:
        """The work has ended: nobody can join it any more."""
        for key in work.keys:
            if self._in_flight.get(key) is work:
                del self._in_flight[key]

    def _found(self, keys: Iterable[EncodingKey]) -> dict[EncodingKey, Encoding]:
        """Those that are stored. What was encoded alone is good for all."""
        found = ((key, self._store.get(key if key in self._store else alone(key))) for key in keys)
        return {key: encoding for key, encoding in found if encoding is not None}

    def _has(self, key: EncodingKey) -> bool:
        return key in self._store or alone(key) in self._store

    def _joinable(self, key: EncodingKey, context: RequestContext, num_wanted: int) -> "_InFlight | None":
        """The work on an encoding that a caller may wait for, of which it wants so many."""
        work = self._in_flight.get(key)
        if work is None or work.is_stopped:
            return None
        is_small = work.context is context or len(work.keys) <= max(MANY, MUCH_LARGER * num_wanted)
        return work if is_small and _outlasts(work.context, context) else None

    def _count(self, kind: str, results: Mapping[LookupResult, int]) -> None:
        for result, num_lookups in results.items():
            if num_lookups:
                self._observer.lookup(kind, result, num_lookups)


class Claim:
    """What one caller has of the encodings that it looked up; `EncodingCache.claim` makes it."""

    def __init__(
        self,
        cache: EncodingCache,
        found: Encodings,
        joined: "Mapping[EncodingKey, _InFlight]",
        *,
        own: "_InFlight | None",
        context: RequestContext,
    ) -> None:
        self.found = found
        """Stored before."""
        self.mine: Sequence[EncodingKey] = own.keys if own else ()
        """The caller's to compute."""
        self.joined_s = 0.0
        """How long `encodings` waited for work that another caller started."""
        self._cache = cache
        self._joined = joined
        self._own = own
        self._context = context

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Compute what is `mine`, in a task of its own: it is cancelled when nobody waits for it any more.

        Args:
            work: Calls `publish` at its end; where it raises instead, that is as `fail`.
        """
        task = asyncio.create_task(work)
        self._mine.task = task
        task.add_done_callback(self._end)

    def publish(self, encodings: Sequence[EncodingOrError]) -> None:
        """Hand the encodings of `mine`, in order, to all who wait, and store them."""
        self._mine.encodings = dict(zip(self.mine, encodings, strict=True))
        self._cache.store(self._mine.encodings)
        self._finish()

    def fail(self, error: BaseException) -> None:
        """Give up what is `mine`: the caller meets the error, whoever joined has to claim it for itself."""
        self._mine.error = error if self._mine.num_waiting else None
        self._finish()

    async def encodings(self) -> dict[EncodingKey, EncodingOrError]:
        """Wait for everything that was looked up.

        Returns:
            An encoding or an error for each key, to be shared and not written to. What others were computing is missing
            where their work was stopped.

        Raises:
            PlumblineError: What stopped the work on `mine`.
        """
        joined = set(self._joined.values())
        awaited = [*joined, self._own] if self._own else [*joined]
        for work in awaited:
            work.num_waiting += 1
        try:
            started = time.perf_counter()
            for work in joined:
                if work.context is not self._context:  # waiting for what the request itself started is not counted
                    await work.done.wait()
                    self.joined_s = time.perf_counter() - started
            for work in joined:
                await work.done.wait()
            computed = await self._own.result() if self._own else {}
        finally:
            for work in awaited:
                work.leave()
        others = {key: work.encodings[key] for key, work in self._joined.items() if work.encodings is not None}
        return {**self.found, **others, **computed}

    @property
    def _mine(self) -> "_InFlight":
        assert self._own is not None, "nothing was claimed"  # noqa: S101 - our own invariant  # nosec B101
        return self._own

    def _finish(self) -> None:
        self._cache.forget(self._mine)
        self._mine.done.set()

    def _end(self, task: "asyncio.Task[None]") -> None:
        """The task has ended. The work lets go of it: an error holds the frames that it passed, and they the claim."""
        self._mine.task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self._mine.done.is_set():
            self.fail(error or RuntimeError("The work ended without encodings."))


class _InFlight:
    """Encodings that are being computed, for as long as anyone waits for them."""

    def __init__(self, keys: Sequence[EncodingKey], context: RequestContext) -> None:
        self.keys = keys
        self.context = context
        self.task: asyncio.Task[None] | None = None
        self.done = asyncio.Event()
        """Set once there are encodings, or there will be none."""
        self.encodings: Encodings | None = None
        self.error: BaseException | None = None
        self.num_waiting = 0
        self.is_stopped = False

    def leave(self) -> None:
        """One that waited does so no more; when the last one has left, the work is stopped."""
        self.num_waiting -= 1
        if not self.num_waiting:
            self.is_stopped, self.error = True, None
            if self.task is not None:
                self.task.cancel()

    async def result(self) -> Encodings:
        """What was computed, for the caller that started it; raises what stopped it."""
        await self.done.wait()
        if self.encodings is None:
            raise self._take_error()
        return self.encodings

    def _take_error(self) -> BaseException:
        """The error, of which nothing may stay here: it holds the frames that it passes, and they this work."""
        error, self.error = self.error, None
        return error or asyncio.CancelledError()


def _outlasts(work: RequestContext, other: RequestContext) -> bool:
    """Whether work under way is there in time for another request, and in no later lane."""
    is_as_urgent = PRIORITIES.index(work.priority) <= PRIORITIES.index(other.priority)
    return is_as_urgent and work.deadline.at_s >= other.deadline.at_s
