"""Pairs of prompts that quality is read from: of each, one tells of good quality and one of bad."""

import json
from dataclasses import dataclass
from typing import Final, TypeAlias

Pair: TypeAlias = tuple[str, str]
"""Good, bad."""

QUALICLIP_PAIRS: Final[tuple[Pair, ...]] = (
    ("Good photo.", "Bad photo."),
    ("Sharp image.", "Blurry image."),
    ("Sharp edges.", "Blurry edges."),
    ("High-resolution image.", "Low-resolution image."),
    ("Noise-free image.", "Noisy image."),
    ("High-quality image.", "Low-quality image."),
    ("Good picture.", "Bad picture."),
)
"""arXiv:2403.11176; the full stops are tokens of their own, and count."""
CLIPIQA_PAIRS: Final[tuple[Pair, ...]] = (("Good photo.", "Bad photo."),)
"""arXiv:2207.12396."""


@dataclass(frozen=True, slots=True)
class QualityPrompts:
    """Which prompts a score is made of.

    Args:
        name: Stands in keys and notes.
        pairs: At least one.
        may_be_stored: Whether features that a checkpoint brings along take their place.
    """

    name: str
    pairs: tuple[Pair, ...]
    may_be_stored: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """Good and bad in turn."""
        return tuple(text for pair in self.pairs for text in pair)

    @property
    def canonical(self) -> str:
        """Text that is the same for the same prompts."""
        return json.dumps([self.pairs, self.may_be_stored])


QUALICLIP: Final = QualityPrompts("qualiclip", QUALICLIP_PAIRS, may_be_stored=True)
CLIPIQA: Final = QualityPrompts("clipiqa", CLIPIQA_PAIRS)
