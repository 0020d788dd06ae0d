"""Figures beside what they should reach."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured share or correlation."""

    scorer: str
    measure: str
    value: float
    least: float | None
    """What it should reach; None: shown only."""
    num: int
    """Pairs, captions or images behind it."""

    @property
    def is_reached(self) -> bool:
        """Whether it is where it should be."""
        return self.least is None or self.value >= self.least


def markdown(figures: Sequence[Figure]) -> str:
    """A table with targets beside figures; what is missed is marked."""
    lines = ["| scorer | measure | of | measured | at least | |", "| --- | --- | --- | --- | --- | --- |"]
    for one in figures:
        least = "" if one.least is None else f"{one.least:.3f}"
        mark = "" if one.is_reached else "missed"
        lines.append(f"| {one.scorer} | {one.measure} | {one.num} | {one.value:.3f} | {least} | {mark} |")
    return "\n".join(lines)
