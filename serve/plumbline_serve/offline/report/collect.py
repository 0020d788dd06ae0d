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
class TagRate:
    """What became of the questions of one tag, over all rows that have such."""

    tag: str
    num_rows: int
    failed: float
    """The mean over rows of the share of questions that failed: of elements asked for, the rate that is missing."""
    any_failed: float
    """The share of rows where one failed: of elements that must not be there, the rate of hallucination."""


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
    tags: Mapping[str, Sequence[TagRate]] = field(default_factory=dict)
    """By scorer that asks questions; those that fail most first."""

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


class _Tags:
    """Sums over the rows so far, by tag."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, rates: Mapping[str, float]) -> None:
        for tag, passed in rates.items():
            sums = self._sums.setdefault(tag, [0, 0.0, 0])
            sums[0] += 1
            sums[1] += 1 - passed
            sums[2] += passed < 1

    def rates(self) -> list[TagRate]:
        """The tags, those that fail most first."""
        found = [TagRate(tag, int(num), failed / num, some / num) for tag, (num, failed, some) in self._sums.items()]
        return sorted(found, key=lambda each: (-each.failed, each.tag))


def collect(table: ScoredTable, failures: Path) -> ReportData:
    """Read an output.

    Args:
        table: Opened.
        failures: Its side file; none where no row failed.
    """
    names = [name for name in table.facts.scorers if name in table.names]
    words = {name: f"{name}.words" for name in names if f"{name}.words" in table.names}
    wanted = [name for name in ("row", "image", "text") if name in table.names]
    tags = {name: _Tags() for name in names if f"{name}.rates" in table.names}
    sample = Sample(names)
    ends = {name: _Ends() for name in names}
    for line in table.lines([*wanted, *names, *words.values(), *(f"{name}.rates" for name in tags)]):
        sample.add(line)
        for name, sums in tags.items():
            sums.add(line[f"{name}.rates"] or {})
        for name in names:
            value = line.get(name)
            if value is not None and ends[name].takes(value):
                ends[name].add(_shown(line, value, line.get(words.get(name) or next(iter(words.values()), ""))))
    extremes = {
        name: each.extremes(higher_is_better=table.facts.scorers[name].higher_is_better) for name, each in ends.items()
    }
    rates = {name: each.rates() for name, each in tags.items()}
    return ReportData(table.path.name, table.facts, sample, extremes, read_failures(failures), rates)


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
