"""What is loaded: scorers, and the encoders that they read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScorerEntry:
    """One loaded scorer."""

    id: str
    summary: str
    low: float | None
    """Lowest possible value; null where there is none."""
    high: float | None
    """Highest possible value; null where there is none."""
    higher_is_better: bool
    needs_text: bool
    needs: Sequence[str]
    """Fields of an item that it scores by; an item that lacks one gets an error from it."""
    encoders: Sequence[str]
    """What it computes with, by key in `GET /v1/models`."""
    precision: str
    """Of its encoders, each once: attributions are computed in fp32 always."""
    backend: str
    paper: str
    """An arXiv identifier."""
    licence: str
    """Of the weights behind it."""
    conventions: Mapping[str, str]
    """How the value is made, as configured, by setting."""
    context_length: int | None
    """Tokens that a text is cut to; null where no text is cut."""
    demo: bool = False
    """True where it computes with a demonstration network of the package, which knows drawings of simple shapes and no
    photographs; else absent."""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One loaded encoder."""

    key: str
    kind: str
    """`image`, `text`, or `pair` for both together."""
    arch: str
    source: str
    """Where the weights come from: a tag, a hub name, a file name, or `embedded`."""
    licence: str
    sha256: str
    dim: int
    backend: str
    precision: str
    device: str
    notes: Mapping[str, str]
    licence_class: str
    """`permissive`, `copyleft`, `restricted`, `non-commercial` or `unknown`; `licences.forbid` refuses by it."""
    demo: bool = False
    """True of a demonstration network of the package; else absent."""
