"""What a service has loaded."""

from collections.abc import Mapping

from pydantic import Field

from plumbline_client.problems import ReplyModel


class ScorerEntry(ReplyModel):
    """One loaded scorer."""

    id: str
    summary: str = ""
    low: float | None = None
    """Lowest possible value; None where there is none."""
    high: float | None = None
    higher_is_better: bool = True
    needs_text: bool = True
    needs: tuple[str, ...] = ()
    """Fields of an item that it scores by."""
    encoders: tuple[str, ...] = ()
    precision: str = ""
    backend: str = ""
    paper: str = ""
    licence: str = ""
    """Of the weights behind it."""
    conventions: Mapping[str, str] = Field(default_factory=dict)
    """How the value is made, as configured, by setting."""
    context_length: int | None = None
    """Tokens that a text is cut to; None where no text is cut."""
    demo: bool = False
    """Whether it computes with a demonstration network, which knows drawings of simple shapes and no photographs."""


class EncoderEntry(ReplyModel):
    """One loaded encoder."""

    key: str
    kind: str = ""
    """`image`, `text`, or `pair` for both together."""
    arch: str = ""
    source: str = ""
    licence: str = ""
    sha256: str = ""
    dim: int = 0
    backend: str = ""
    precision: str = ""
    device: str = ""
    notes: Mapping[str, str] = Field(default_factory=dict)
    licence_class: str = ""
    """`permissive`, `copyleft`, `restricted`, `non-commercial` or `unknown`."""
    demo: bool = False
    """Whether it is a demonstration network of the package."""


class ScorersReply(ReplyModel):
    """The scorers."""

    scorers: tuple[ScorerEntry, ...]


class ModelsReply(ReplyModel):
    """The loaded encoders."""

    models: tuple[EncoderEntry, ...]
