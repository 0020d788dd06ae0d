"""Words of the caller's text, and which tokens make up each.

Two groupings. Ours goes by character offsets. The paper's (CLIP4DM, arXiv:2412.18404, its published code) counts
tokens instead: it splits the text its own way, tokenises each word alone, and hands out the sentence's tokens in that
order. Where the sentence tokenises differently, as in `...`, every later word gets its neighbour's tokens and the
last words none. `compat_words` does the same, for comparison with published numbers.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from plumbline_models.networks.clip.tokenizer import ClipTokenizer, Tokenised

# A word begins and ends with something other than punctuation, a spacing accent or an invisible character.
_EDGE = r"[^\s\p{P}\p{Sk}\p{Cc}\p{Cf}]"
_WORD = regex.compile(rf"{_EDGE}(?:\S*{_EDGE})?")
_COMPAT_WORD = re.compile(r"[.,]|[^ .,]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it stands, in characters, the end excluded."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """Split a text at white space and strip punctuation off both ends of each word.

    Hyphens, apostrophes and the like inside a word stay; what is punctuation only is no word. A run of Chinese or
    Japanese is one word.
    """
    return [Word(match[0], match.start(), match.end()) for match in _WORD.finditer(text)]


def count_words(text: str, *, most: int) -> int:
    """How many words a text has, as `split_words` counts them; counting stops at `most`.

    Args:
        text: Any text.
        most: At least 0.
    """
    return sum(1 for _ in itertools.islice(_WORD.finditer(text), most))


def words_from_tokens(tokenised: Tokenised, words: Sequence[Word], *, offset: int = 0) -> list[list[int]]:
    """Find the tokens of each word.

    Args:
        tokenised: The text, or a template and the text.
        words: In order, not overlapping.
        offset: Where the words' text begins in what was tokenised: the template's length.

    Returns:
        For each word the indices into `tokenised.spans` of the tokens that share a character with it; token `k` is
        `ids[k + 1]`. Empty where the word was cut off, or was nothing that CLIP reads.
    """
    spans = tokenised.spans
    grouped: list[list[int]] = []
    first = 0
    for word in words:
        start, end = word.start + offset, word.end + offset
        while first < len(spans) and spans[first][1] <= start:
            first += 1
        last = first
        while last < len(spans) and spans[last][0] < end:
            last += 1
        grouped.append(list(range(first, last)))
    return grouped


def compat_words(
    text: str, template: str, tokenised: Tokenised, *, tokenizer: ClipTokenizer
) -> tuple[list[Word], list[list[int]]]:
    """Group tokens as the paper's code does, bug for bug.

    Args:
        text: The caption.
        template: What was put before it; as many words as it has are dropped, also where the last of them has
            grown together with the caption's first.
        tokenised: `template + text`, by `tokenizer`.
        tokenizer: With `compat=True`, to be exact.

    Returns:
        The words, full stops and commas among them, by their place in `text`, and for each the indices into
        `tokenised.spans`, as `words_from_tokens`. Tokens behind an end-of-text are invisible and in no list.
    """
    num_visible = tokenised.eot_index - 1
    words: list[Word] = []
    grouped: list[list[int]] = []
    used = 0
    for match in _COMPAT_WORD.finditer(template + text):
        num_tokens = tokenizer.count(match[0], num_visible - used)  # once all are handed out, there is nothing to count
        words.append(Word(match[0], match.start() - len(template), match.end() - len(template)))
        grouped.append(list(range(used, min(used + num_tokens, num_visible))))
        used += num_tokens
    num_dropped = len(template.split())
    return words[num_dropped:], grouped[num_dropped:]
