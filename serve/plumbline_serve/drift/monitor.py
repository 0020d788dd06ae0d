"""Looks, now and then, at what all processes have counted, and says which scorers drift."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from plumbline_models.core.errors import CapacityError
from plumbline_models.decisions.drift import e_step
from plumbline_serve.drift.comparing import compare, p_value
from plumbline_serve.drift.live import NUM_SLICES
from plumbline_serve.drift.references import Reference
from plumbline_serve.drift.windows import Slices, Window, merged, windows_of
from plumbline_serve.drift_messages import DriftEntry

log = logging.getLogger(__name__)
LOOK_PERIOD_S: Final = 10.0

References: TypeAlias = Mapping[str, Reference]
"""By scorer."""


@dataclass(slots=True)
class _Bet:
    """The e-value of one scorer against one reference."""

    reference: Reference
    e_value: float = 1.0
    last: int | None = None
    """The newest slice that went into it; None: the oldest that is there begins it."""


class DriftMonitor:
    """Which scorers drift. Its e-values begin with the process and with each new reference.

    Args:
        references: Those that fit what is loaded, as they are now.
        gather: What each process has counted.
        window_s: Of all slices together.
        on_look: Told the entries of each look.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        references: Callable[[], Awaitable[References]],
        gather: Callable[[], Awaitable[Sequence[Slices]]],
        *,
        window_s: float,
        on_look: Callable[[Mapping[str, DriftEntry]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._references = references
        self._gather = gather
        self._slice_s = window_s / NUM_SLICES
        self._on_look = on_look
        self._clock = clock
        self._bets: dict[str, _Bet] = {}
        self.entries: Mapping[str, DriftEntry] = {}
        """By scorer; those that have a reference, as of the last look."""

    def has_drifted(self, scorer: str) -> bool:
        """Whether a scorer did at the last look."""
        entry = self.entries.get(scorer)
        return entry is not None and entry.severity != "none"

    async def slices(self) -> Slices:
        """What all processes have counted, as one."""
        return merged(await self._gather())

    async def look(self) -> Mapping[str, DriftEntry]:
        """See how things are now.

        Returns:
            As `entries` from now on.

        Raises:
            StoreUnavailableError: The references cannot be read.
        """
        references = await self._references()
        slices = await self.slices() if references else {}
        self._bets = {scorer: self._bet(scorer, each) for scorer, each in references.items()}
        self.entries = {scorer: self._entry(scorer, slices) for scorer in sorted(references)}
        if self._on_look is not None:
            self._on_look(self.entries)
        return self.entries

    async def watch(self) -> None:
        """Look every few seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_PERIOD_S)
            try:
                await self.look()
            except CapacityError:
                continue  # the store is away, and says so in the log
            except Exception:
                log.exception("looking for drift failed")

    def _bet(self, scorer: str, reference: Reference) -> _Bet:
        bet = self._bets.get(scorer)
        return bet if bet is not None and bet.reference == reference else _Bet(reference)

    def _entry(self, scorer: str, slices: Slices) -> DriftEntry:
        bet, window = self._bets[scorer], Window()
        growing, since_s = int(self._clock() // self._slice_s), bet.reference.since_s
        for number, part in windows_of(slices, scorer):
            if since_s is not None and number * self._slice_s < since_s:
                continue  # some of it is in the reference
            window.add(part)
            if number < growing and (bet.last is None or number > bet.last):
                bet.last, found = number, p_value(bet.reference, part)
                bet.e_value = bet.e_value if found is None else e_step(bet.e_value, 1.0 - found)
        return compare(bet.reference, window, bet.e_value)
