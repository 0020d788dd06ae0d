"""What a gateway has counted, kept in the store beside what others have: it outlives the process.

Only what a reference is there for is kept, by bin, never a score. Where the store fails, all stays in memory, and is
kept once it is back.
"""

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from plumbline_models.core.errors import StoreUnavailableError
from plumbline_serve.drift.live import NUM_SLICES, LiveWindows
from plumbline_serve.drift.references import Reference
from plumbline_serve.drift.windows import Slices, Window, counted_as
from plumbline_serve.store import Bet, CountRow, Store

if TYPE_CHECKING:
    from plumbline_serve.store.database import Database

log = logging.getLogger(__name__)
References: TypeAlias = Mapping[str, Reference]
"""By scorer."""
MAX_ROWS: Final = 32
"""Of one transaction."""
_SPARE_S: Final = 60.0  # clocks of machines may differ


class KeptCounts:
    """Counts and e-values of all gateways that share a store.

    Args:
        store: Where.
        windows: What this process counts.
        process: Its name, which no other has.
        window_s: Length of all slices together.
    """

    def __init__(self, store: Store, windows: LiveWindows, *, process: str, window_s: float) -> None:
        self._store = store
        self._windows = windows
        self._process = process
        self._window_s = window_s
        self._is_failing = False

    async def flush(self, references: References) -> None:
        """Keep what was counted since the last time, some slices per transaction.

        Args:
            references: Of the scorers whose counts are kept.
        """
        try:
            while await self._store.run(lambda database: self._keep_some(database, references)) == MAX_ROWS:
                pass
        except StoreUnavailableError as error:
            if not self._is_failing:
                log.warning("what is counted for drift cannot be kept: %s", error.facts.get("cause"))
            self._is_failing = True
        else:
            if self._is_failing:
                log.warning("what is counted for drift is kept again")
            self._is_failing = False

    async def of_others(self, references: References, *, without: Collection[str]) -> Slices:
        """What is kept of processes that have gone, or that are not of this application.

        Args:
            references: Of the scorers that are wanted.
            without: Processes that are here, and say themselves what they have counted.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        return await self._store.run(lambda database: self._read(database, references, without))

    async def bets(self, references: References) -> Mapping[str, Bet]:
        """The e-values against references, by scorer; raises as `of_others` does."""
        from plumbline_serve.store.drift_rows import bets_of  # noqa: PLC0415 - who only scores needs no SQLAlchemy

        made_ms = _made_ms(references)
        return await self._store.run(lambda database: bets_of(database, made_ms))

    async def bet(self, references: References, bets: Mapping[str, Bet]) -> Mapping[str, Bet]:
        """Keep e-values that have changed.

        Args:
            references: That they are against.
            bets: By scorer.

        Returns:
            What stands: another gateway may have bet on the same scores before.
        """
        from plumbline_serve.store.drift_rows import put_bets  # noqa: PLC0415 - as above

        made_ms = _made_ms(references)
        try:
            return {**bets, **await self._store.run(lambda database: put_bets(database, made_ms, bets))}
        except StoreUnavailableError:
            return bets  # `flush` says so in the log

    def _keep_some(self, database: "Database", references: References) -> int:
        from plumbline_serve.store.drift_rows import put_counts  # noqa: PLC0415 - as above

        sources = {counted_as(scorer, each.made): each.source for scorer, each in references.items()}
        keys = self._windows.changed(sources.keys(), MAX_ROWS)
        if not keys:
            return 0
        try:
            rows = [self._row(number, sources[scorer], scorer) for number, scorer in keys]
            put_counts(database, self._process, rows, now_ms=self._windows.clock() * 1000)
        except BaseException:
            self._windows.unkept(keys)
            raise
        return len(keys)

    def _row(self, number: int, source: str, scorer: str) -> CountRow:
        ends_s = (number + 1) * self._window_s / NUM_SLICES
        expires_ms = round((ends_s + self._window_s + _SPARE_S) * 1000)
        return CountRow((source, self._window_ms, number), expires_ms, self._windows.copy(number, scorer).document())

    def _read(self, database: "Database", references: References, without: Collection[str]) -> Slices:
        from plumbline_serve.store.drift_rows import counts_of  # noqa: PLC0415 - as above

        scorers = {each.source: counted_as(scorer, each.made) for scorer, each in references.items()}
        since = self._windows.number - NUM_SLICES + 1
        found: Slices = {}
        for (source, _, number), document in counts_of(
            database, scorers.keys(), self._window_ms, since=since, without=without
        ):
            found.setdefault(number, {}).setdefault(scorers[source], Window()).add(Window.from_document(document))
        return found

    @property
    def _window_ms(self) -> int:
        return round(self._window_s * 1000)


def _made_ms(references: References) -> Mapping[str, int]:
    return {scorer: reference.made_ms for scorer, reference in references.items()}
