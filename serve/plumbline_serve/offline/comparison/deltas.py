"""What changed from one output to another, by scorer and by tag."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline_serve.offline.comparison.bootstrap import interval
from plumbline_serve.offline.comparison.pairing import PairedRow, Pairs
from plumbline_serve.offline.facts import RunFacts

NUM_REGRESSIONS = 10


@dataclass(frozen=True, slots=True)
class TagDelta:
    """The pairs of one tag."""

    tag: str
    num: int
    mean_delta: float
    win_rate: float


@dataclass(frozen=True, slots=True)
class Regression:
    """A pair that became worse."""

    prompt: str
    before: float
    after: float
    delta: float
    image_before: str
    image_after: str


@dataclass(frozen=True, slots=True)
class ScorerDelta:
    """One scorer; deltas are turned so that more is better, also where lower values are better."""

    scorer: str
    num: int
    """Pairs with a value in both outputs."""
    mean_before: float
    mean_after: float
    mean_delta: float
    interval: tuple[float, float]
    """Of the mean delta, 95 %, by the bootstrap over prompts."""
    win_rate: float
    """Share of pairs that became better; those that stayed count as half."""
    num_ties: int
    num_lost: int
    """Pairs that have a value in the first output alone: they are in no mean."""
    tags: Sequence[TagDelta]
    regressions: Sequence[Regression]
    """Those that became worst, worst first."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two outputs."""

    num_pairs: int
    num_only_before: int
    num_only_after: int
    scorers: Sequence[ScorerDelta]
    lost: Sequence[str] = ()
    """Scorers that have values in the first output, and none in the pairs of the second."""

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def compare(
    pairs: Pairs, names: Sequence[str], facts: RunFacts, *, seed: int = 0, resamples: int = 10_000
) -> Comparison:
    """Compare paired rows.

    Args:
        pairs: At least one has values of each scorer.
        names: Of the scorers.
        facts: Say which direction is better.
        seed: Of the bootstrap.
        resamples: Likewise.
    """
    deltas = [
        _of_scorer(
            name, pairs.rows, sign=1.0 if facts.scorers[name].higher_is_better else -1.0, draws=(seed, resamples)
        )
        for name in names
    ]
    found = [each for each in deltas if each is not None]
    compared = {each.scorer for each in found}
    lost = [name for name in names if name not in compared and _num_lost(name, pairs.rows)]
    return Comparison(len(pairs.rows), pairs.num_only_before, pairs.num_only_after, found, lost)


def _of_scorer(name: str, rows: Sequence[PairedRow], *, sign: float, draws: tuple[int, int]) -> ScorerDelta | None:
    scored = [row for row in rows if row.before.get(name) is not None and row.after.get(name) is not None]
    if not scored:
        return None
    before, after = (np.array([float(_side(row, which)[name]) for row in scored]) for which in ("before", "after"))
    deltas = sign * (after - before)
    seed, resamples = draws
    return ScorerDelta(
        name,
        len(scored),
        float(before.mean()),
        float(after.mean()),
        float(deltas.mean()),
        interval(deltas, [row.prompt for row in scored], seed=seed, resamples=resamples),
        win_rate(deltas),
        int(np.sum(deltas == 0)),
        _num_lost(name, rows),
        _by_tag(scored, deltas),
        _regressions(name, scored, deltas),
    )


def _num_lost(name: str, rows: Sequence[PairedRow]) -> int:
    return sum(row.before.get(name) is not None and row.after.get(name) is None for row in rows)


def win_rate(deltas: NDArray[np.float64]) -> float:
    """Share above 0, half of those at 0 included.

    Args:
        deltas: `[N]`, at least one.
    """
    return float((np.sum(deltas > 0) + np.sum(deltas == 0) / 2) / len(deltas))


def _side(row: PairedRow, which: str) -> Mapping[str, Any]:
    return row.before if which == "before" else row.after


def _by_tag(rows: Sequence[PairedRow], deltas: NDArray[np.float64]) -> list[TagDelta]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for tag in dict.fromkeys(row.tags):
            places.setdefault(tag, []).append(place)
    return [
        TagDelta(tag, len(found), float(deltas[found].mean()), win_rate(deltas[found]))
        for tag, found in sorted(places.items())
    ]


def _regressions(name: str, rows: Sequence[PairedRow], deltas: NDArray[np.float64]) -> list[Regression]:
    worst = heapq.nsmallest(NUM_REGRESSIONS, range(len(rows)), key=lambda place: (deltas[place], place))
    return [
        Regression(
            rows[place].prompt,
            float(rows[place].before[name]),
            float(rows[place].after[name]),
            float(deltas[place]),
            str(rows[place].before.get("image") or ""),
            str(rows[place].after.get("image") or ""),
        )
        for place in worst
        if deltas[place] < 0
    ]
