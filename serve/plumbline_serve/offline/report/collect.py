"""What the page shows, gathered from an output in one pass over its rows."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.outputs import ScoredTable
from plumbline_serve.offline.summary import Sample

NUM_EXTREMES = 6
MAX_SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A row that the page shows by its image."""

    number: int
    name: str
    text: str | None
    value: float
    words: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Extremes:
    """The rows with the best and the worst values of a scorer, best first and worst first."""

    best: Sequence[Shown]
    worst: Sequence[Shown]


@dataclass(frozen=True, slots=True)
class Failures:
    """Rows that failed, or single scorers for them."""

    num_rows: int
    by_code: Mapping[str, int]
    shown: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the page shows but for the images."""

    title: str
    facts: RunFacts
    sample: Sample
    extremes: Mapping[str, Extremes]
    failures: Failures

    @property
    def numbers(self) -> set[int]:
        """Rows whose images are shown."""
        shown = (row for each in self.extremes.values() for row in (*each.best, *each.worst))
        return {row.number for row in shown}


@dataclass(slots=True)
class _Ends:
    """The rows with the highest and the lowest values so far; of equal ones the first."""

    high: list[tuple[float, int, Shown]] = field(default_factory=list)
    low: list[tuple[float, int, Shown]] = field(default_factory=list)

    def add(self, row: Shown) -> None:
        for heap, sign in ((self.high, 1.0), (self.low, -1.0)):
            entry = (sign * row.value, -row.number, row)
            if len(heap) < NUM_EXTREMES:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)

    def takes(self, value: float) -> bool:
        """Whether a row with the value is among them, at least for now."""
        return len(self.high) < NUM_EXTREMES or value > self.high[0][0] or value < -self.low[0][0]

    def extremes(self, *, higher_is_better: bool) -> Extremes:
        """Best first, worst first."""
        high, low = ([row for *_, row in sorted(heap, reverse=True)] for heap in (self.high, self.low))
        return Extremes(high, low) if higher_is_better else Extremes(low, high)


def collect(table: ScoredTable, failures: Path) -> ReportData:
    """Read an output.

    Args:
        table: Opened.
        failures: Its side file; none where no row failed.
    """
    names = [name for name in table.facts.scorers if name in table.names]
    words = {name: f"{name}.words" for name in names if f"{name}.words" in table.names}
    wanted = [name for name in ("row", "image", "text") if name in table.names]
    sample = Sample(names)
    ends = {name: _Ends() for name in names}
    for line in table.lines([*wanted, *names, *words.values()]):
        sample.add(line)
        for name in names:
            value = line.get(name)
            if value is not None and ends[name].takes(value):
                ends[name].add(_shown(line, value, line.get(words.get(name) or next(iter(words.values()), ""))))
    extremes = {
        name: each.extremes(higher_is_better=table.facts.scorers[name].higher_is_better) for name, each in ends.items()
    }
    return ReportData(table.path.name, table.facts, sample, extremes, read_failures(failures))


def read_failures(path: Path) -> Failures:
    """Read the side file of rows that failed; none where there is none."""
    if not path.is_file():
        return Failures(0, {}, [])
    by_code: Counter[str] = Counter()
    shown: list[Mapping[str, Any]] = []
    num_rows, last = 0, None
    with path.open("rb") as file:
        for text in file:
            line = orjson.loads(text)
            by_code[line["problem"]["code"]] += 1
            num_rows += line["row"] != last
            last = line["row"]
            if len(shown) < MAX_SHOWN_FAILURES:
                shown.append(line)
    return Failures(num_rows, by_code, shown)


def _shown(line: Mapping[str, Any], value: float, words: Sequence[Mapping[str, Any]] | None) -> Shown:
    return Shown(int(line.get("row") or 0), line.get("image") or "", line.get("text"), value, words or ())
