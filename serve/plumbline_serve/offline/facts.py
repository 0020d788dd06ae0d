"""What scores were made by: conventions and weights of each scorer, kept in the output beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from plumbline_serve.messages.decisions import CLASSIFIER_PREFIX

VERSION = 1


class ScorerFacts(BaseModel):
    """One scorer, as it was loaded."""

    model_config = ConfigDict(frozen=True)

    conventions: dict[str, str] = {}
    """How the value is made, by setting."""
    weights: dict[str, str] = {}
    """SHA-256 of the weights, by encoder."""
    precision: str = ""
    backend: str = ""
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    needs: tuple[str, ...] = ()
    summary: str = ""

    @property
    def binds(self) -> Mapping[str, Any]:
        """What values must share to be compared."""
        return {"conventions": self.conventions, "weights": self.weights}

    @property
    def made_in(self) -> str:
        """Precision and backend, for people: between two of them values differ a little."""
        return f"{self.precision} on {self.backend}"


class RunFacts(BaseModel):
    """All scorers of a run, by name."""

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    scorers: dict[str, ScorerFacts] = {}
    images: str = ""
    """The folder that paths of images are seen from."""
    asked: dict[str, str] = {}
    """Digests of what was asked for, by what it is: input, options."""
    set_encoder: str = ""
    """The encoder of images whose encodings were kept for the measures of sets; empty: none were."""

    def scorer_of(self, column: str) -> str | None:
        """The scorer whose value or detail a column holds; None where it is none of theirs.

        Args:
            column: By its name, which may have dots before that of a detail, as classifiers' may.
        """
        parts = column.split(".")
        names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((name for name in names if name in self.scorers), None)

    @property
    def set_weights(self) -> str:
        """SHA-256 of that encoder's weights; empty where no scorer names it."""
        found = (scorer.weights.get(self.set_encoder) for scorer in self.scorers.values())
        return next((digest for digest in found if digest), "")


class Entry(Protocol):
    """A loaded scorer, as the service or its client describes it."""

    id: Any
    summary: Any
    conventions: Any
    encoders: Any
    precision: Any
    backend: Any
    low: Any
    high: Any
    higher_is_better: Any
    needs: Any


@dataclass(frozen=True, slots=True)
class Described:
    """The scorers and encoders that are loaded."""

    scorers: Iterable[Any]
    """With the fields of `Entry`."""
    encoders: Iterable[Any]
    """With `key` and `sha256`."""
    names: Iterable[str] | None = field(default=None)
    """Of the scorers that run; None: all that are loaded, and no classifiers."""

    def facts(self) -> RunFacts:
        """What is kept of them."""
        digests = {encoder.key: encoder.sha256 for encoder in self.encoders}
        wanted = None if self.names is None else set(self.names)
        ran = (each for each in self.scorers if (_is_loaded(each.id) if wanted is None else each.id in wanted))
        found = {each.id: _facts(each, digests) for each in ran}
        return RunFacts(scorers=found)


def _is_loaded(scorer: str) -> bool:
    return not scorer.startswith(CLASSIFIER_PREFIX)


def _facts(entry: Entry, digests: Mapping[str, str]) -> ScorerFacts:
    return ScorerFacts(
        conventions=dict(entry.conventions),
        weights={key: digests.get(key, "") for key in entry.encoders},
        precision=entry.precision,
        backend=entry.backend,
        low=entry.low,
        high=entry.high,
        higher_is_better=entry.higher_is_better,
        needs=tuple(entry.needs),
        summary=entry.summary,
    )
