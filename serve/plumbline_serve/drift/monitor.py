"""Looks, now and then, at what all processes have counted, and says which scorers drift."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from plumbline_models.core.errors import CapacityError
from plumbline_models.decisions.drift import e_step
from plumbline_serve.drift.comparing import compare, p_value
from plumbline_serve.drift.kept import KeptCounts, References
from plumbline_serve.drift.live import NUM_SLICES
from plumbline_serve.drift.references import Reference
from plumbline_serve.drift.windows import Slices, Window, counted_as, merged, summed, windows_of
from plumbline_serve.messages.drift import DriftEntry
from plumbline_serve.store import Bet

log = logging.getLogger(__name__)
LOOK_PERIOD_S: Final = 10.0
"""What a gateway counts within it is lost where the gateway dies."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The e-value of one scorer against one reference, as this process knows it."""

    reference: Reference
    bet: Bet


class DriftMonitor:
    """Which scorers drift. Its e-values begin with each new reference; without `kept`, with the process too.

    Args:
        references: Those that fit what is loaded, as they are now.
        gather: What each process that is here has counted, by its name.
        window_s: Of all slices together.
        kept: Counts and e-values that outlive processes; None: there are none.
        on_look: Told the entries of each look.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        references: Callable[[], Awaitable[References]],
        gather: Callable[[], Awaitable[Mapping[str, Slices]]],
        *,
        window_s: float,
        kept: KeptCounts | None = None,
        on_look: Callable[[Mapping[str, DriftEntry]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._references = references
        self._gather = gather
        self._slice_s = window_s / NUM_SLICES
        self._kept = kept
        self._on_look = on_look
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self.entries: Mapping[str, DriftEntry] = {}
        """By scorer; those that have a reference, as of the last look."""

    def has_drifted(self, scorer: str) -> bool:
        """Whether a scorer did at the last look."""
        entry = self.entries.get(scorer)
        return entry is not None and entry.severity != "none"

    async def slices(self) -> Slices:
        """What all processes have counted, as one; raises as `look` does."""
        return await self._slices(await self._references())

    async def look(self) -> Mapping[str, DriftEntry]:
        """See how things are now.

        Returns:
            As `entries` from now on.

        Raises:
            StoreUnavailableError: The references, or the counts of processes that have gone, cannot be read.
        """
        references = await self._references()
        slices = await self._slices(references) if references else {}
        kept = await self._kept.bets(references) if self._kept is not None and references else {}
        windows = {scorer: self._windows(slices, scorer, each) for scorer, each in references.items()}
        bets = {
            scorer: self._bet(each, self._begun(scorer, each, kept.get(scorer)), windows[scorer])
            for scorer, each in references.items()
        }
        grown = {scorer: bet for scorer, bet in bets.items() if bet.until_s > kept.get(scorer, Bet()).until_s}
        if self._kept is not None and grown:
            bets |= await self._kept.bet(references, grown)
        self._known = {scorer: _Known(each, bets[scorer]) for scorer, each in references.items()}
        self.entries = {
            scorer: compare(references[scorer], summed(windows[scorer].values()), bets[scorer].e_value)
            for scorer in sorted(references)
        }
        if self._on_look is not None:
            self._on_look(self.entries)
        return self.entries

    async def flush(self) -> None:
        """Keep what this process has counted of scorers that have a reference; a store that fails is logged."""
        if self._kept is not None:
            with suppress(CapacityError):  # the store is away, and says so in the log
                if references := await self._references():
                    await self._kept.flush(references)

    async def watch(self) -> None:
        """Flush and look every few seconds, until it is cancelled."""
        while True:
            began_s = time.monotonic()
            try:
                await self.flush()
                await self.look()
            except CapacityError:
                pass  # as above
            except Exception:
                log.exception("looking for drift failed")
            await asyncio.sleep(max(0.0, began_s + LOOK_PERIOD_S - time.monotonic()))

    async def _slices(self, references: References) -> Slices:
        counted = await self._gather()
        gone: Slices = {}
        if self._kept is not None and references:
            gone = await self._kept.of_others(references, without=counted.keys())
        return merged([*counted.values(), gone])

    def _begun(self, scorer: str, reference: Reference, kept: Bet | None) -> Bet:
        """The e-value so far: that which is kept, unless this process has bet on more and could not keep it."""
        known = self._known.get(scorer)
        own = known.bet if known is not None and known.reference == reference else Bet()
        return kept if kept is not None and kept.until_s >= own.until_s else own

    def _windows(self, slices: Slices, scorer: str, reference: Reference) -> Mapping[int, Window]:
        """The slices of a scorer, the oldest first, but for those of which some is in the reference."""
        since_s = reference.since_s or 0.0
        counted = windows_of(slices, counted_as(scorer, reference.made))
        return {number: part for number, part in counted if number * self._slice_s >= since_s}

    def _bet(self, reference: Reference, bet: Bet, windows: Mapping[int, Window]) -> Bet:
        """The e-value, once the slices that are over have gone into it."""
        growing = int(self._clock() // self._slice_s)
        for number, part in windows.items():
            if number >= growing or number * self._slice_s < bet.until_s:
                continue
            found = p_value(reference, part)
            e_value = bet.e_value if found is None else e_step(bet.e_value, 1.0 - found)
            bet = Bet(e_value, (number + 1) * self._slice_s)
        return bet
