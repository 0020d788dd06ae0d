"""Rows by name: kept from before, being made for another caller, or made now.

Work under way does not belong to whoever asked first: it goes on while anyone waits for it. A caller joins only work
whose deadline is no earlier than its own, and what stops that work as a whole (a full queue, say) it meets with an
attempt of its own. Errors of single inputs are shared with those who wait, and never kept.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import Literal, Protocol, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.concurrency import Deadline
from plumbline_serve.encoding_cache.in_flight import InFlight, Joined, Make
from plumbline_serve.encoding_cache.keys import EncodingKey, EncodingOrError
from plumbline_serve.encoding_cache.store import EncodingStore

LookupResult: TypeAlias = Literal["hit", "joined", "miss"]
"""Kept, being made for another caller, or made now."""


class LookupObserver(Protocol):
    """What the shared rows tell the metrics."""

    def lookup(self, cache: str, result: LookupResult, num_lookups: int) -> None:
        """Rows of a kind were asked for."""
        ...

    def kept(self, cache: str, num_bytes: int) -> None:
        """The rows of a kind that are kept take that many bytes now."""
        ...


class EncodingCache:
    """All rows of one process; bound to one event loop."""

    def __init__(self, store: EncodingStore, observer: LookupObserver) -> None:
        self._store = store
        self._observer = observer
        self._in_flight: dict[EncodingKey, InFlight] = {}

    async def get(
        self, names: Sequence[EncodingKey], make: Make, deadline: Deadline, *, joined: Joined | None = None
    ) -> Mapping[EncodingKey, EncodingOrError]:
        """Rows of distinct names, of one kind.

        Args:
            names: Of the rows.
            make: Makes those that are not there; it may go on when this call is cancelled, while others wait.
            deadline: When the caller goes.
            joined: The caller's, the same for all that it asks for; a wait for what it is having made itself is none.

        Returns:
            A row or an error for each name; rows are shared, and must not be written to.

        Raises:
            PlumblineError: As `make` raises.
        """
        found: dict[EncodingKey, EncodingOrError] = {
            name: row for name in names if (row := self._store.get(name)) is not None
        }
        others = {
            name: computation for name in names if name not in found and (computation := self._joinable(name, deadline))
        }
        missing = [name for name in names if name not in found and name not in others]
        self._count(names, {"hit": len(found), "joined": len(others), "miss": len(missing)})
        if len(found) == len(names):
            return found
        joined = joined or Joined()
        own = self._start(missing, make, deadline, joined) if missing else None
        try:
            await _landed({*others.values()} | ({own} if own else set()), joined)
            if own:
                found |= own.task.result()
            found |= {
                name: computation.task.result()[name] for name, computation in others.items() if computation.is_done
            }
            failed = [name for name, computation in others.items() if not computation.is_done]
        finally:
            del own, others  # an error holds this frame, and a flight its error
        if failed:
            found.update(await self.get(failed, make, deadline, joined=joined))
        return found

    def _joinable(self, name: EncodingKey, deadline: Deadline) -> InFlight | None:
        computation = self._in_flight.get(name)
        if computation is None or not computation.can_be_joined or computation.deadline.at_s < deadline.at_s:
            return None
        return computation

    def _start(self, names: Sequence[EncodingKey], make: Make, deadline: Deadline, starter: Joined) -> InFlight:
        computation = InFlight(names, make, deadline, starter=starter)
        self._in_flight.update(dict.fromkeys(names, computation))
        computation.task.add_done_callback(lambda _: self._finish(computation))
        return computation

    def _finish(self, computation: InFlight) -> None:
        for name in computation.names:
            if self._in_flight.get(name) is computation:
                del self._in_flight[name]
        if not computation.is_done:
            return
        for name, row in computation.task.result().items():
            if not isinstance(row, PlumblineError):
                self._store.put(name, row)
        kind = computation.names[0].kind
        self._observer.kept(kind, self._store.num_bytes(kind))

    def _count(self, names: Sequence[EncodingKey], results: Mapping[LookupResult, int]) -> None:
        for result, num_lookups in results.items():
            if num_lookups:
                self._observer.lookup(names[0].kind, result, num_lookups)


async def _landed(in_flight: AbstractSet[InFlight], joined: Joined) -> None:
    """Wait for flights, and note how long it took those that another request started."""
    with ExitStack() as waiting:
        for computation in in_flight:
            waiting.enter_context(computation.awaited())
        started = time.perf_counter()
        if foreign := [computation.task for computation in in_flight if computation.starter is not joined]:
            await asyncio.wait(foreign)
            joined.seconds = max(joined.seconds, time.perf_counter() - started)
        await asyncio.wait([computation.task for computation in in_flight])
