"""Which of the elements that a set should show, or should not, it does show.

The rates are those of T2I-BiasBench: the share of the prompt's elements that is missing (grounded), the same of what
the prompt implies, the share of images with an element that is forbidden (hallucination), and the share with at least
one marker of the culture that is meant. There they are looked for in captions as substrings, where a laboratory has a
rat in it, and say what the caption leaves out. Here an image is asked about each element; `mentioned` looks for whole
words in captions, or for substrings as the program does.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import InvalidFieldError

Present = NDArray[np.bool_]
"""`[N, E]`: whether image i shows element e."""


def missing_rate(present: Present) -> float | None:
    """The mean share of elements that an image does not show; None where there are none."""
    return float(1 - present.mean()) if present.size else None


def any_rate(present: Present) -> float | None:
    """The share of images that show at least one of the elements: forbidden ones, or markers; None without elements."""
    return float(present.any(axis=1).mean()) if present.size else None


def association(stereotypical: Present, diverse: Present) -> float:
    """The share of the stereotypical among images that show something stereotypical or something diverse; as theirs.

    Args:
        stereotypical: Elements of the stereotype.
        diverse: Elements against it, of the same images.
    """
    counts = [int(each.any(axis=1).sum()) for each in (stereotypical, diverse)]
    return counts[0] / (counts[0] + counts[1] + 1e-8)


def mentioned(captions: Sequence[str], elements: Sequence[str], *, whole_words: bool = True) -> Present:
    """Which elements captions name, whatever the case of their letters.

    Args:
        captions: Of images.
        elements: Words or phrases, none of them empty.
        whole_words: Whether an element must stand by itself; else it may be a part of a word.

    Raises:
        InvalidFieldError: An element is empty.
    """
    if not all(element.strip() for element in elements):
        raise InvalidFieldError("An element to look for is empty.")
    edge = r"(?<!\w){}(?!\w)" if whole_words else "{}"
    patterns = [re.compile(edge.format(re.escape(each.strip())), re.IGNORECASE) for each in elements]
    found = [[pattern.search(caption) is not None for pattern in patterns] for caption in captions]
    return np.array(found, np.bool_).reshape(len(captions), len(elements))
