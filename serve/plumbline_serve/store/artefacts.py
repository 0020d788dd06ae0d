"""What the store keeps: documents by kind and name, each bound to the scorer that it was made with."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import orjson

from plumbline_models.core.errors import BoundToOtherError

COMBINATION: Final = "combination"
"""The convention of a combination that says what it is made of."""
WEIGHTS: Final = "weights"
"""What follows the name of a combination's term, for the convention that has the term's weights."""
_MAX_SHOWN_CHARS: Final = 64  # of a convention, where two differ

Kind: TypeAlias = Literal["calibration", "reference", "classifier", "guard", "reference set", "set summary"]
"""A reference set is large, so that a summary of it is kept beside it under the same name, for lists."""


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Binding:
    """What values come from: two of them may be compared where all of it is the same."""

    scorer: str
    """Its name; that of a combination; the key of an encoder, for what is made of encodings."""
    weights: str
    """SHA-256 of the weights behind it, in hexadecimal; of a combination that of all its terms."""
    conventions: Mapping[str, str]
    """How the value is made, by setting."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Artefact:
    """One thing that is kept."""

    kind: Kind
    name: str
    """Unique among its kind."""
    bound_to: Binding
    document: Mapping[str, Any]
    """JSON-ready; callers leave it as it is."""
    created: datetime = field(default_factory=_now)
    """In UTC, to the millisecond."""

    @property
    def created_text(self) -> str:
        """When it was made, as replies say it: `2026-11-29T07:20:59.123Z`."""
        return self.created.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def created_ms(self) -> int:
        """When it was made, in milliseconds since the epoch."""
        return round(self.created.timestamp() * 1000)

    def check_bound_to(self, now: Binding) -> None:
        """Refuse to be used with what it was not made with.

        Args:
            now: What it should be used with.

        Raises:
            BoundToOtherError: Scorer, weights or conventions are others.
        """
        if (difference := _difference(self.bound_to, now)) is not None:
            raise BoundToOtherError(f"The {self.kind} {self.name} {difference}; make it again.", name=self.name)


def _difference(then: Binding, now: Binding) -> str | None:
    if then.scorer != now.scorer:
        return f"was made with {then.scorer} and not with {now.scorer}"
    names = [
        name
        for name in sorted({*then.conventions, *now.conventions})
        if then.conventions.get(name) != now.conventions.get(name)
    ]
    if COMBINATION in names:
        return f"was made with another combination by the name of {now.scorer}"
    if then.weights != now.weights:
        terms = [name.removesuffix(f".{WEIGHTS}") for name in names if name.endswith(f".{WEIGHTS}")]
        return f"was made with other weights of {', '.join(terms) or now.scorer} than those that are loaded"
    settings = [f"{each}: {_shown(then, each)} then, {_shown(now, each)} now" for each in names]
    return f"was made with another setting of {now.scorer} ({'; '.join(settings)})" if names else None


def _shown(binding: Binding, convention: str) -> str:
    return binding.conventions.get(convention, "none")[:_MAX_SHOWN_CHARS]
