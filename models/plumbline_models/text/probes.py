"""The same caption said otherwise: with another meaning, or with the same one, to see what a score hears.

A score that is as high for a caption whose attributes changed places, or whose words stand in any order, is overstable:
it hears a bag of words. One that moves though nothing changed but the order of clauses is oversensitive. The probes are
those that need no language model, after Feng et al., "Pathologies of Neural Models Make Interpretations Difficult",
EMNLP 2018, and Yuksekgonul et al., "When and why vision-language models behave like bags-of-words", ICLR 2023,
arXiv:2210.01936.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

Probe: TypeAlias = Literal["attribute_swap", "one_word", "shuffle", "clauses"]
CHANGING: Final[tuple[Probe, ...]] = ("attribute_swap", "one_word", "shuffle")
"""After them the caption means something else, or nothing."""
KEEPING: Final[tuple[Probe, ...]] = ("clauses",)
"""After them it means the same."""

_CLASSES: Final = (
    ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey", "gray"),
    ("small", "large"),
    ("big", "little"),
    ("tall", "short"),
    ("old", "young"),
    ("solid", "striped", "outlined", "dotted"),
    ("wooden", "metal", "plastic", "glass", "leather"),
    ("round", "square"),
    ("left", "right"),
    ("above", "below"),
)
"""Words of which one in the place of another says something else."""
_CLASS_OF: Final[Mapping[str, int]] = {word: index for index, words in enumerate(_CLASSES) for word in words}
_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_LEAST_WORDS: Final = 3  # of a caption whose order says something
_MAX_TRIES: Final = 8


def probed(caption: str) -> dict[Probe, str]:
    """The captions that a caption is compared with; those that can be made of it, the same each time.

    Args:
        caption: In English, as far as attributes and clauses are concerned.
    """
    found: dict[Probe, str | None] = {
        "attribute_swap": _swapped(caption),
        "one_word": _one_word_other(caption),
        "shuffle": _shuffled(caption),
        "clauses": _clauses_turned(caption),
    }
    return {probe: text for probe, text in found.items() if text is not None and text != caption}


def _swapped(caption: str) -> str | None:
    """Two attributes of one class in each other's place."""
    words = list(_WORD.finditer(caption))
    for index, first in enumerate(words):
        kind = _CLASS_OF.get(first[0].lower())
        for second in words[index + 1 :]:
            if kind is not None and _CLASS_OF.get(second[0].lower()) == kind and first[0].lower() != second[0].lower():
                return _replaced(caption, ((first, second[0]), (second, first[0])))
    return None


def _one_word_other(caption: str) -> str | None:
    """The first attribute replaced by another that the caption does not have."""
    words = list(_WORD.finditer(caption))
    known = {word[0].lower() for word in words}
    for word in words:
        kind = _CLASS_OF.get(word[0].lower())
        others = [] if kind is None else [each for each in _CLASSES[kind] if each not in known]
        if others:
            return _replaced(caption, ((word, random.Random(caption).choice(others)),))  # noqa: S311 - no secret  # nosec B311
    return None


def _shuffled(caption: str) -> str | None:
    words = caption.split()
    if len(words) < _LEAST_WORDS:
        return None
    rng = random.Random(caption)  # noqa: S311 - no secret  # nosec B311
    for _ in range(_MAX_TRIES):
        other = words[:]
        rng.shuffle(other)
        if other != words:
            return " ".join(other)
    return None


def _clauses_turned(caption: str) -> str | None:
    """`A and B` as `B and A`, where there is one `and`."""
    first, joined, second = caption.rstrip(".").partition(" and ")
    if not joined or " and " in second or "," in caption:
        return None
    return f"{second}{joined}{first}" + ("." if caption.endswith(".") else "")


def _replaced(caption: str, changes: Sequence[tuple["re.Match[str]", str]]) -> str:
    for word, other in reversed(changes):
        caption = f"{caption[: word.start()]}{_like(word[0], other)}{caption[word.end() :]}"
    return caption


def _like(word: str, other: str) -> str:
    """The other word, capitalised as the one in whose place it comes."""
    return other.capitalize() if word[:1].isupper() else other.lower()
