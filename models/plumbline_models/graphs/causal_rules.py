"""What a causal network's graphs are told besides its weights; no torch here, so that preparing needs none."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

PatchOrder: TypeAlias = Literal["planes", "tiles", "merged"]
"""How pixels are handed over: `[N, 3, H, W]`, `[N, T, 3, H, W]`, or flat patches in groups that are merged."""


@dataclass(frozen=True, slots=True)
class PixelRules:
    """How the tower takes its pixels."""

    order: PatchOrder
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch_px: int = 14
    merge: int = 2
    num_frames: int = 2
    """An image is a film of so many equal frames to the `merged` kind."""


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """What is scored, and how."""

    placeholder_id: int
    """The token in whose place a row of the image stands."""
    rival_id: int
    num_tokens: int
    """Of the vocabulary, from its beginning, that the softmax runs over."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of all tokens that the prompt holds, and multiplies the negative ones; 1: raw."""
