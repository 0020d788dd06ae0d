"""What scores are compared with: a window that the operator chose, kept as counts in quantile bins."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np

from plumbline_models.decisions.drift import LEAST_NUMBERS, check_values, quantile_edges
from plumbline_models.decisions.fields import invalid
from plumbline_serve.drift.windows import Counts, Slices, Window, binned, counted_as, entropies, spread, whole
from plumbline_serve.messages.decisions import MADE
from plumbline_serve.store import Artefact

_LEAST_BINS: Final = 2


@dataclass(frozen=True, slots=True)
class Bins:
    """How many numbers lay between which."""

    edges: Sequence[float]
    """Inner ones."""
    counts: Sequence[int]
    """One more."""

    @classmethod
    def of(cls, counts: Mapping[float, int]) -> Self:
        """About as many in each of ten.

        Args:
            counts: In the fine bins.
        """
        values = np.repeat(list(counts), list(counts.values()))
        edges = quantile_edges(values)
        return cls(tuple(edges), tuple(spread(counts, edges)))

    @property
    def num(self) -> int:
        """How many there are in all."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Reference:
    """One scorer's."""

    scores: Bins
    images: Mapping[str, Bins]
    """By statistic; none where only scores were given."""
    entropy: tuple[float, float, int] | None
    """As `entropies` has it; None where the scores are no probabilities."""
    since_s: float | None = None
    """Seconds since the epoch: what was counted before then went into it; None: it comes from elsewhere."""
    source: str = ""
    """Digest of the binding of its scores: what is counted of others is held against others."""
    made: str | None = None
    """As for `counted_as`."""
    made_ms: int = 0
    """When it was kept, in milliseconds since the epoch: tells it from those of its scorer before and after."""

    @classmethod
    def of_values(cls, values: Sequence[float], *, are_probabilities: bool) -> Self:
        """Of values that the operator sends.

        Args:
            values: At least 100.
            are_probabilities: Whether they are.

        Raises:
            InvalidFieldError: They are too few, not finite, or hardly differ.
        """
        window = Window(Counter(binned(float(each)) for each in check_values(values)))
        return cls._of(window, field="/values", are_probabilities=are_probabilities)

    @classmethod
    def of_live(
        cls, slices: Slices, scorer: str, *, are_probabilities: bool, now_s: float, made: str | None = None
    ) -> Self:
        """Of what is counted of a scorer now.

        Args:
            slices: Of all processes.
            scorer: Its name.
            are_probabilities: Whether its scores are.
            now_s: Seconds since the epoch.
            made: As for `counted_as`.

        Raises:
            InvalidFieldError: It is too little, or hardly differs.
        """
        window = whole(slices, counted_as(scorer, made))
        if window.num_scores < LEAST_NUMBERS:
            detail = f"has {window.num_scores} scores of {scorer}; at least {LEAST_NUMBERS} are needed"
            raise invalid("/from_live", detail)
        return cls._of(window, field="/from_live", are_probabilities=are_probabilities, since_s=now_s)

    @classmethod
    def _of(cls, window: Window, *, field: str, are_probabilities: bool, since_s: float | None = None) -> Self:
        scores = Bins.of(window.scores)
        if len(scores.counts) < _LEAST_BINS:
            raise invalid(field, "hardly differ, so that nothing can be told from them")
        return cls(
            scores=scores,
            images={name: bins for name, counts in window.images.items() if (bins := _bins(counts)) is not None},
            entropy=entropies(window.scores) if are_probabilities else None,
            since_s=since_s,
        )

    def document(self) -> dict[str, Any]:
        """As JSON, to be kept."""
        images = {name: {"edges": list(bins.edges), "counts": list(bins.counts)} for name, bins in self.images.items()}
        return {
            "edges": list(self.scores.edges),
            "counts": list(self.scores.counts),
            "images": images,
            "entropy": None if self.entropy is None else list(self.entropy),
            "since_s": self.since_s,
        }

    @classmethod
    def of_artefact(cls, artefact: Artefact) -> Self:
        """One that is kept."""
        found = cls.from_document(artefact.document)
        made = artefact.bound_to.conventions.get(MADE)
        return replace(found, source=artefact.bound_to.digest, made=made, made_ms=artefact.created_ms)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """As `document` wrote it."""
        entropy = document["entropy"]
        return cls(
            scores=Bins(document["edges"], document["counts"]),
            images={name: Bins(each["edges"], each["counts"]) for name, each in document["images"].items()},
            entropy=None if entropy is None else (entropy[0], entropy[1], entropy[2]),
            since_s=document["since_s"],
        )


def _bins(counts: Counts) -> Bins | None:
    """None: they are too few, or hardly differ."""
    if counts.total() < LEAST_NUMBERS:
        return None
    bins = Bins.of(counts)
    return bins if len(bins.counts) >= _LEAST_BINS else None
