"""What the text scorers make of fresh scenes by the renderer that training never saw."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtests.accuracy.served import Scores, encoded, score
from loadtests.accuracy.targets import Figure
from plumbline_serve.requests.service import CoreService
from plumbline_training.evaluation.pairs import Pair
from plumbline_training.foils import KINDS, WORD_KINDS, FoilKind

TEXT_SCORERS = ("clipscore", "vqascore", "fclipscore")
ABOVE_CLIPSCORE: tuple[FoilKind, ...] = ("relation", "count", "binding")
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A pair, with the scores of its true caption and of its foil."""

    pair: Pair
    true: Scores
    false: Scores


async def score_pairs(service: CoreService, pairs: Sequence[Pair]) -> list[ScoredPair]:
    """Score both texts of each pair."""
    images = [encoded(pair.image) for pair in pairs]
    true = await score(service, [(i, p.truth) for i, p in zip(images, pairs, strict=True)], TEXT_SCORERS)
    false = await score(service, [(i, p.foil) for i, p in zip(images, pairs, strict=True)], TEXT_SCORERS)
    return [ScoredPair(*one) for one in zip(pairs, true, false, strict=True)]


def figures(scored: Sequence[ScoredPair]) -> list[Figure]:
    """The rows of clipscore, vqascore and fclipscore."""
    rows = []
    for kinds in (*((kind,) for kind in KINDS), KINDS):
        name, some = _name(kinds), [one for one in scored if one.pair.kind in kinds]
        if not some:
            continue
        clip, vqa = (_share_above(some, scorer) for scorer in ("clipscore", "vqascore"))
        rows.append(Figure("clipscore", f"true above foil, {name}", clip, 0.90 if kinds == KINDS else 0.80, len(some)))
        least = 0.95 if kinds == KINDS else clip if kinds[0] in ABOVE_CLIPSCORE else None
        rows.append(Figure("vqascore", f"true above foil, {name}", vqa, least, len(some)))
    rows.append(Figure("vqascore", "0.5 parts true from foil", _share_parted(scored), 0.90, 2 * len(scored)))
    words = [one for one in scored if one.pair.kind in WORD_KINDS]
    rows.append(Figure("fclipscore", "F1 of misaligned words, colour shape fill", _f1(words), 0.70, len(words)))
    lowest = float(np.mean([_is_lowest(one) for one in words]))
    rows.append(Figure("fclipscore", "changed word lowest, colour shape fill", lowest, 0.85, len(words)))
    return sorted(rows, key=lambda row: TEXT_SCORERS.index(row.scorer))


def _name(kinds: Sequence[FoilKind]) -> str:
    return "all" if len(kinds) > 1 else kinds[0]


def _share_above(scored: Iterable[ScoredPair], scorer: str) -> float:
    return float(np.mean([one.true[scorer].value > one.false[scorer].value for one in scored]))


def _share_parted(scored: Iterable[ScoredPair]) -> float:
    right = [(one.true["vqascore"].value >= THRESHOLD, one.false["vqascore"].value < THRESHOLD) for one in scored]
    return float(np.mean(right))


def _f1(scored: Iterable[ScoredPair]) -> float:
    """Of words said to be misaligned against changed ones, in foils."""
    hits = said = changed = 0
    for one in scored:
        for word in _words(one):
            is_changed = _is_changed(word, one.pair)
            hits += word["misaligned"] and is_changed
            said += word["misaligned"]
            changed += is_changed
    return 2 * hits / max(1, said + changed)


def _is_lowest(one: ScoredPair) -> bool:
    return _is_changed(min(_words(one), key=lambda word: word["attribution"]), one.pair)


def _words(one: ScoredPair) -> Sequence[dict[str, Any]]:
    words: Sequence[dict[str, Any]] = one.false["fclipscore"].details["words"]
    return words


def _is_changed(word: dict[str, Any], pair: Pair) -> bool:
    return any(word["start"] < end and word["end"] > start for start, end in pair.changed)
