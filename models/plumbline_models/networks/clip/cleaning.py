"""How CLIP's tokenizer cleans a text, and the way back to the text as it was sent.

The steps and their order are those of open_clip's `clean="lower"`: ftfy, HTML entities twice, lower case. The last
one, squeezing runs of spaces, is left out: no token holds a space, so the tokens are the same without it.
"""

import html
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import ftfy
import regex

from plumbline_models.networks.clip.alignment import Alignment, align_fixed, align_lowered, align_unescaped

Span: TypeAlias = tuple[int, int]
"""Begin and end, in characters, the end excluded."""

_WHITE_SPACE = regex.compile(r"\p{White_Space}+")
_NUM_UNESCAPES = 2  # once for the text, once more for text that was escaped twice


@dataclass(frozen=True, slots=True)
class CleanedText:
    """A cleaned text that knows where its characters came from.

    Args:
        text: Lower case, repaired, unescaped.
        steps: Those that moved characters, first one first: each makes an alignment of a given length.
    """

    text: str
    steps: tuple[Callable[[int], Alignment], ...]

    def trace(self, spans: list[Span]) -> list[Span]:
        """Find the characters of the text as sent that spans of the cleaned text were made of.

        Args:
            spans: Not empty each, begins and ends never decreasing.

        Returns:
            As many, with the same two properties.
        """
        for step in reversed(self.steps):
            if not spans:
                break
            alignment = step(spans[-1][1])
            starts, ends = alignment.starts, alignment.ends
            spans = [(starts[start], ends[end - 1]) for start, end in spans]
        return spans


def clean(text: str) -> CleanedText:
    """Clean a text for CLIP."""
    steps: list[Callable[[int], Alignment]] = []
    fixed = ftfy.fix_text(text)
    if fixed != text:
        steps.append(lambda limit: align_fixed(text, fixed, limit))
    current = fixed
    for _ in range(_NUM_UNESCAPES):
        unescaped = html.unescape(current)
        if unescaped != current:
            steps.append(_unescape_step(current))
        current = unescaped
    lowered = current.lower()
    if len(lowered) != len(current):
        steps.append(lambda limit: align_lowered(current, limit))
    return CleanedText(lowered, tuple(steps))


def squeeze(text: str) -> str:
    """Clean a text as the transformers library does for CLIP: NFC, white space to single spaces, lower case."""
    return lower_letters(_WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text)))


def lower_letters(text: str) -> str:
    """Lower case letter by letter, as the transformers library: a sigma at a word's end is lowered like any other."""
    return "".join(char.lower() for char in text)


def _unescape_step(original: str) -> Callable[[int], Alignment]:
    return lambda limit: align_unescaped(original, limit)
