"""What a causal network's graphs are told besides its weights; no torch here, so that preprocessing needs none."""

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

PatchOrder: TypeAlias = Literal["planes", "tiles", "merged"]
"""What images become: a padded square, tiles of one size, or groups of patches that are merged."""

KEPT_BYTES: Final = 1 << 30
"""Of keys and values that are kept for further batches of the same images; the newest is kept whatever it takes."""


@dataclass(frozen=True, slots=True)
class PixelRules:
    """How the tower takes its pixels."""

    order: PatchOrder
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side_px: int
    """Of a square or tile, or of a group of patches."""


@dataclass(frozen=True, slots=True)
class PromptRules:
    """How a prompt is read."""

    placeholder_id: int
    """The token in whose place one of the image stands."""
    num_axes: int = field(default=1, kw_only=True)
    """Of a position."""


@dataclass(frozen=True, slots=True)
class AnswerRules(PromptRules):
    """What is scored of an answer, and how."""

    rival_id: int
    num_tokens: int | None
    """Of the vocabulary, from its beginning, that the softmax runs over; None: all that is stored."""
    repetition_penalty: float = field(default=1.0, kw_only=True)
    """Divides the positive logits of all tokens that the prompt holds, and multiplies the negative ones; 1: raw."""
