"""CLIP's tokenizer, without torch: the ids of open_clip's `SimpleTokenizer`, and where each token stands in the text.

It departs from open_clip in one thing. There, a text that happens to hold `<start_of_text>` or `<end_of_text>` gets
the control token, and the encoder sees nothing of what follows; here these are plain text. With `compat=True` they
are control tokens as in open_clip.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import regex

from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import ConfigError
from plumbline_models.text.byte_pairs import END_OF_TEXT, START_OF_TEXT, load_byte_pairs
from plumbline_models.text.cleaning import CleanedText, Span, clean

Encoded: TypeAlias = tuple[tuple[int, ...], tuple[Span, ...]]
"""Ids, and for each the characters that it covers, wholly or in part."""

# Radford et al., arXiv:2103.00020: contractions, letters, single digits, anything else, each a word of its own.
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CONTROL = r"<start_of_text>|<end_of_text>"
_WORDS = regex.compile(_WORD, regex.IGNORECASE)
_WORDS_AND_CONTROL = regex.compile(f"{_CONTROL}|{_WORD}", regex.IGNORECASE)
_CONTROL_IDS = {"<start_of_text>": START_OF_TEXT, "<end_of_text>": END_OF_TEXT}

# Texts that cleaning only lowers: ASCII without control characters and without the mark that begins an entity.
_PLAIN = re.compile(r"[\t\n\r\f -%'-~]*")

_MAX_CACHED_CHUNKS = 32_768
_MAX_CACHED_CHARS = 48
_MIN_CONTEXT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Tokenised:
    """A text as an encoder reads it.

    Args:
        ids: `[L]`, start-of-text to end-of-text, cut to the context with end-of-text last.
        spans: For each id between the two, the characters of the text as sent that it stands for. Begins and ends
            never decrease; tokens that share a character both have it.
        num_untruncated: How many ids there would be without the limit.
    """

    ids: TokenIds
    spans: tuple[Span, ...]
    num_untruncated: int

    @property
    def truncated(self) -> bool:
        """Whether the text was cut."""
        return self.num_untruncated > len(self.ids)

    @property
    def eot_index(self) -> int:
        """Where the first end-of-text stands, at which the encoder reads its result."""
        return int((self.ids == END_OF_TEXT).argmax())


@dataclass(frozen=True, slots=True)
class ClipTokenizer:
    """Tokenises for CLIP; thread-safe, and cheap to make: the vocabulary is shared.

    Args:
        context_length: The most ids that a text may have, at least 3.
        compat: Whether control tokens may be written in a text, as in open_clip.

    Raises:
        ConfigError: The context has no room for a text.
    """

    context_length: int = 77
    compat: bool = False

    def __post_init__(self) -> None:
        if self.context_length < _MIN_CONTEXT:
            raise ConfigError("The context must hold at least three tokens.", context_length=self.context_length)

    def encode(self, text: str) -> Tokenised:
        """Tokenise a text of any length; time grows with n log n.

        Raises:
            CheckpointError: The vocabulary is missing or damaged.
        """
        is_plain = _PLAIN.fullmatch(text) is not None
        cleaned = CleanedText(text.lower(), ()) if is_plain else clean(text)
        ids = [START_OF_TEXT]
        spans: list[Span] = []
        position = 0
        for chunk in cleaned.text.split():
            position = cleaned.text.find(chunk, position)
            encode = _encode_cached if len(chunk) <= _MAX_CACHED_CHARS else _encode_chunk
            chunk_ids, chunk_spans = encode(chunk, self.compat)
            ids += chunk_ids
            for start, end in chunk_spans:
                spans.append((position + start, position + end))
            position += len(chunk)
        ids.append(END_OF_TEXT)
        num_untruncated = len(ids)
        if num_untruncated > self.context_length:
            ids[self.context_length - 1 :] = [END_OF_TEXT]
            del spans[self.context_length - 2 :]
        traced = tuple(cleaned.trace(spans))
        return Tokenised(np.array(ids, dtype=np.int64), traced, num_untruncated)

    def count(self, text: str) -> int:
        """How many tokens a text has by itself, without the two that frame it and without any limit."""
        return self.encode(text).num_untruncated - 2


def _encode_chunk(chunk: str, compat: bool) -> Encoded:  # noqa: FBT001 - part of the cache's key
    """Encode what stands between two spaces; what is beyond them has no influence."""
    pairs = load_byte_pairs()
    ids: list[int] = []
    spans: list[Span] = []
    for match in (_WORDS_AND_CONTROL if compat else _WORDS).finditer(chunk):
        word = match[0]
        if word in _CONTROL_IDS:  # only the pattern that knows them finds them as one word
            ids.append(_CONTROL_IDS[word])
            spans.append(match.span())
            continue
        word_ids, begins = pairs.encode_word(word)
        ids += word_ids
        spans += _char_spans(word, begins, match.start())
    return tuple(ids), tuple(spans)


def _char_spans(word: str, begins: tuple[int, ...], offset: int) -> list[Span]:
    """The characters that each token covers, given the byte at which each begins."""
    if word.isascii():
        return [(offset + begin, offset + end) for begin, end in pairwise((*begins, len(word)))]
    chars = [index for index, char in enumerate(word, start=offset) for _ in char.encode("utf-8")]
    return [(chars[begin], chars[end - 1] + 1) for begin, end in pairwise((*begins, len(chars)))]


_encode_cached = lru_cache(maxsize=_MAX_CACHED_CHUNKS)(_encode_chunk)
