"""CLIP's tokenizer, without torch: the ids of open_clip's `SimpleTokenizer`, and where each token stands in the text.

It departs from open_clip in one thing. There, a text that happens to hold `<start_of_text>` or `<end_of_text>` gets
the control token, and the encoder sees nothing of what follows; here these are plain text. With `compat=True` they
are control tokens as in open_clip.
"""

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import regex

from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import ConfigError
from plumbline_models.networks.clip.byte_pairs import END_OF_TEXT, START_OF_TEXT, load_byte_pairs
from plumbline_models.networks.clip.cleaning import CleanedText, Span, clean
from plumbline_models.networks.clip.long_words import first_tokens

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

_MAX_CACHED_CHUNKS = 8_192
_MAX_CACHED_BYTES = 48
"""Of a chunk; callers choose what is kept, and 8,192 chunks of 48 tokens each take 30 MB."""
_LONG_WORD_BYTES = 512
"""From here on it takes less time to find a word's first tokens than to encode all of it."""
_MIN_CONTEXT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Tokenised:
    """A text as an encoder reads it.

    Args:
        ids: `[L]`, start-of-text to end-of-text, cut to the context with end-of-text last.
        spans: For each id between the two, the characters of the text as sent that it stands for. Begins and ends
            never decrease; tokens that share a character both have it.
        truncated: Whether the text was cut.
    """

    ids: TokenIds
    spans: tuple[Span, ...]
    truncated: bool

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
        """Tokenise a text of any length; what is beyond the context is cleaned, but not tokenised.

        Raises:
            CheckpointError: The vocabulary is missing or damaged.
        """
        cleaned = _clean(text)
        room = self.context_length - 2
        ids, spans = _encode_text(cleaned.text, self.compat, room + 1)  # the one too many says that the text is cut
        traced = tuple(cleaned.trace(spans[:room]))
        framed = np.array([START_OF_TEXT, *ids[:room], END_OF_TEXT], dtype=np.int64)
        return Tokenised(framed, traced, truncated=len(ids) > room)

    def cuts(self, text: str) -> bool:
        """Whether a text is longer than the context."""
        room = self.context_length - 2
        if len(text) <= room and _PLAIN.fullmatch(text):
            return False  # no token is shorter than a character
        return self.count(text, room + 1) > room

    def count(self, text: str, most: int = sys.maxsize) -> int:
        """How many tokens a text has by itself, without the two that frame it.

        Args:
            text: Any text.
            most: Counting stops there.
        """
        ids, _ = _encode_text(_clean(text).text, self.compat, most)
        return min(len(ids), most)


def encode_chunk(chunk: str, most: int) -> tuple[int, ...]:
    """Ids of a piece of cleaned text that holds no spaces: all of them, or somewhat more than `most`.

    Args:
        chunk: What stands between two spaces.
        most: How many are wanted.
    """
    if len(chunk) <= _MAX_CACHED_BYTES and len(chunk.encode("utf-8")) <= _MAX_CACHED_BYTES:
        return _encode_cached(chunk, compat=False)[0]
    return _encode_chunk(chunk, compat=False, most=most)[0]


def _clean(text: str) -> CleanedText:
    return CleanedText(text.lower(), ()) if _PLAIN.fullmatch(text) else clean(text)


def _encode_text(text: str, compat: bool, most: int) -> tuple[list[int], list[Span]]:  # noqa: FBT001 - see below
    """Encode a cleaned text: all of it, or somewhat more than so many tokens."""
    ids: list[int] = []
    spans: list[Span] = []
    position = 0
    for chunk in text.split():
        if len(ids) >= most:
            break
        position = text.find(chunk, position)
        if len(chunk) <= _MAX_CACHED_BYTES and len(chunk.encode("utf-8")) <= _MAX_CACHED_BYTES:
            chunk_ids, chunk_spans = _encode_cached(chunk, compat)
        else:
            chunk_ids, chunk_spans = _encode_chunk(chunk, compat, most - len(ids))
        ids += chunk_ids
        for start, end in chunk_spans:
            spans.append((position + start, position + end))
        position += len(chunk)
    return ids, spans


def _encode_chunk(chunk: str, compat: bool, most: int = sys.maxsize) -> Encoded:  # noqa: FBT001 - part of the cache's key
    """Encode what stands between two spaces; what is beyond them has no influence."""
    ids: list[int] = []
    spans: list[Span] = []
    for match in (_WORDS_AND_CONTROL if compat else _WORDS).finditer(chunk):
        if len(ids) >= most:
            break
        word = match[0]
        if word in _CONTROL_IDS:  # only the pattern that knows them finds them as one word
            ids.append(_CONTROL_IDS[word])
            spans.append(match.span())
            continue
        word_ids, borders = _encode_word(word, most - len(ids))
        ids += word_ids
        spans += _char_spans(word, borders, match.start())
    return tuple(ids), tuple(spans)


def _encode_word(word: str, most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Encode a word, or the first tokens of a long one: ids, and the bytes between which they stand."""
    written = word.encode("utf-8")
    if len(written) > _LONG_WORD_BYTES and (found := first_tokens(written, most)) is not None:
        return found
    ids, begins = load_byte_pairs().encode_word(word)
    return ids, (*begins, len(written))


def _char_spans(word: str, borders: tuple[int, ...], offset: int) -> list[Span]:
    """The characters that each token covers, given the bytes between which each stands."""
    if word.isascii():
        return [(offset + begin, offset + end) for begin, end in pairwise(borders)]
    chars: list[int] = []
    for index, char in enumerate(word, start=offset):
        if len(chars) >= borders[-1]:
            break
        chars += [index] * len(char.encode("utf-8"))
    return [(chars[begin], chars[end - 1] + 1) for begin, end in pairwise(borders)]


_encode_cached = lru_cache(maxsize=_MAX_CACHED_CHUNKS)(_encode_chunk)
