"""What an item is judged by: one scorer, or several scores as one.

A combination is a weighted sum, or a harmonic mean over bounds that stay as they are. The harmonic mean is that of
Harvard's FairBenchmarkingFlow, "MMHM": `sum(w) / sum(w / (0.001 + u))`, where u is a value's place between its bounds,
the better end 1. One bad score sinks it. Theirs takes bounds from the candidates at hand, and leaves [0, 1] where
bounds are used again; here the caller's bounds hold, and u is clamped.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.protocols import Score, Scorer
from plumbline_serve.messages import Combination, ScoreOrError, Term
from plumbline_serve.requests.validation import Case, Checks

EPSILON: Final = 1e-3  # theirs: what a value at its worse bound counts as, so that a zero does not hide all others


@dataclass(frozen=True, slots=True)
class Judge:
    """One scorer, or a combination whose scorers are loaded.

    Args:
        name: The scorer's, or what the caller calls the combination.
        scorers: That one, or those of the combination's terms, in order.
        combination: As the caller sent it; None: one scorer.
    """

    name: str
    scorers: Sequence[Scorer]
    combination: Combination | None = None

    @classmethod
    def of(cls, scorer: Scorer) -> "Judge":
        """One scorer alone."""
        return cls(scorer.info.name, [scorer])

    @property
    def relative_cost(self) -> float:
        """Of all its scorers; see `Scorer.relative_cost`."""
        return sum(scorer.relative_cost for scorer in self.scorers)

    @property
    def higher_is_better(self) -> bool:
        """Of its values; of a combination always."""
        return self.combination is not None or self.scorers[0].info.higher_is_better

    def score(self, case: Case, scores: Mapping[str, ScoreOrError]) -> ScoreOrError:
        """The value for an item; of a combination the first error of a term in its place.

        Args:
            case: The item, which is right in itself.
            scores: What was found for it; a scorer that is not there lacked something.
        """
        found = [scores.get(scorer.info.name) or _lacking(scorer, case) for scorer in self.scorers]
        if self.combination is None:
            return found[0]
        for scorer, score in zip(self.scorers, found, strict=True):
            if isinstance(score, PlumblineError):
                facts = {**score.facts, "scorer": scorer.info.name}
                return type(score)(f"{self.name} has no value: {score.detail}", **facts)
        return _combine(self.combination, self.scorers, [score for score in found if isinstance(score, Score)])


def combinations(checks: Checks, combine: Mapping[str, Combination]) -> dict[str, Judge]:
    """Look up the scorers of combinations.

    Args:
        checks: Knows what is loaded.
        combine: Combinations by name, as the caller sent them.

    Raises:
        UnknownScorerError: A term's scorer is not loaded.
        InvalidFieldError: A combination has the name of a scorer.
    """
    found: dict[str, Judge] = {}
    for name, combination in combine.items():
        if checks.is_scorer(name):
            raise InvalidFieldError(
                f"A combination cannot be called {name}: that is a scorer.",
                errors=[{"pointer": f"/combine/{name}", "detail": "is the name of a scorer"}],
            )
        pointer = f"/combine/{name}/terms"
        scorers = [checks.scorer(term.scorer, f"{pointer}/{i}/scorer") for i, term in enumerate(combination.terms)]
        found[name] = Judge(name, scorers, combination)
    return found


def scorers_of(judges: Iterable[Judge]) -> list[Scorer]:
    """The scorers that run, each once."""
    return list({scorer.info.name: scorer for judge in judges for scorer in judge.scorers}.values())


def scorers_behind(names: Iterable[str], combine: Mapping[str, Combination]) -> set[str]:
    """The names of the scorers that values come from.

    Args:
        names: Of scorers and of combinations.
        combine: The combinations, by name.
    """
    terms = {name: [term.scorer for term in combination.terms] for name, combination in combine.items()}
    return {scorer for name in names for scorer in terms.get(name, [name])}


def place(value: float, term: Term, *, is_up: bool) -> float:
    """What a value counts as: its place between the term's bounds, in [0, 1]; itself where there are none.

    Args:
        value: The scorer's.
        term: Its bounds.
        is_up: Whether a higher value is better; else the lower bound is the better one.
    """
    if term.min is None or term.max is None:
        return value
    up = min(1.0, max(0.0, (value - term.min) / (term.max - term.min)))
    return up if is_up else 1.0 - up


def weighted_sum(parts: Sequence[float], weights: Sequence[float]) -> float:
    """The sum of weight times part."""
    return math.fsum(weight * part for weight, part in zip(weights, parts, strict=True))


def harmonic_mean(parts: Sequence[float], weights: Sequence[float], epsilon: float = EPSILON) -> float:
    """The weighted harmonic mean of parts in [0, 1], each with epsilon added.

    Args:
        parts: At least one.
        weights: Above 0.
        epsilon: What a part of 0 counts as.

    Returns:
        A number in [epsilon, 1 + epsilon].
    """
    return math.fsum(weights) / math.fsum(w / (epsilon + part) for w, part in zip(weights, parts, strict=True))


def _lacking(scorer: Scorer, case: Case) -> PlumblineError:
    return case.lacks(scorer) or PlumblineError(f"{scorer.info.name} gave no value.", scorer=scorer.info.name)


def _combine(combination: Combination, scorers: Sequence[Scorer], scores: Sequence[Score]) -> Score:
    weights, parts = [term.weight for term in combination.terms], {}
    for term, scorer, score in zip(combination.terms, scorers, scores, strict=True):
        parts[term.scorer] = place(score.value, term, is_up=scorer.info.higher_is_better)
    method = harmonic_mean if combination.method == "harmonic" else weighted_sum
    is_truncated = any(score.details.get("truncated") for score in scores)
    truncated = {"truncated": True} if is_truncated else {}
    return Score(method(list(parts.values()), weights), {"terms": parts, **truncated})
