"""The shapes of load that efficiency is measured at, and those that are left out."""

from dataclasses import dataclass

from plumbline_serve.settings import Settings


@dataclass(frozen=True, order=True)
class Cell:
    """A closed loop of callers whose requests hold a number of items each."""

    num_items: int
    num_callers: int

    @property
    def num_in_flight(self) -> int:
        """Items that are asked about at any moment."""
        return self.num_items * self.num_callers

    def num_requests(self, least_items: int) -> int:
        """Of a round: one a caller or more, and that many items or more."""
        return max(-(-least_items // self.num_items), self.num_callers)


GRID = [Cell(num_items, num_callers) for num_items in (1, 8, 32, 64) for num_callers in (1, 16, 64, 256)]


def why_refused(cell: Cell, settings: Settings) -> str | None:
    """Which of the service's bounds a cell's requests would exceed; None: none."""
    if cell.num_items > settings.limits.max_items:
        return f"a request may hold {settings.limits.max_items} items (limits.max_items)"
    if cell.num_in_flight > settings.batching.max_queued_items:
        return (
            f"{cell.num_in_flight} items in flight, of which {settings.batching.max_queued_items} may wait "
            "(batching.max_queued_items): the service would answer 429"
        )
    return None


def why_too_long(cell: Cell, *, takes_s: float, left_s: float) -> str | None:
    """Whether a cell takes longer than is left; None: it fits."""
    if takes_s > left_s:
        return f"{cell.num_in_flight} items in flight take {takes_s:.0f} s or more, and {max(left_s, 0):.0f} s are left"
    return None
