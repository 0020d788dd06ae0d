"""BERT's WordPiece tokenizer, uncased: text to token ids between `[CLS]` and `[SEP]`.

Devlin et al., arXiv:1810.04805; Wu et al., arXiv:1609.08144, section 4.1. The steps are those of the published
`bert-base-uncased`: control characters go, Chinese characters stand alone, lower case, accents go, punctuation stands
alone, then the longest piece that the vocabulary has, again and again. Strings that look like control tokens (`[SEP]`,
`[MASK]`) are plain text here; the authors' program makes control tokens of them.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError
from plumbline_models.text.plain_text import require_utf8

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_CONTINUED: Final = "##"
_MAX_WORD_CHARS: Final = 100  # a longer word is unknown
_CHINESE: Final = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)),
    *((0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
_ASCII_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_MAX_CACHED_WORDS: Final = 8192


class WordPieceTokenizer:
    """A `vocab.txt`; thread-safe once made.

    Args:
        file: One token a line, the line's number being its id.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: It is no vocabulary of BERT's.
    """

    def __init__(self, file: Path) -> None:
        try:
            lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")  # a token may be a separator of lines
        except FileNotFoundError as error:
            raise CheckpointNotFoundError(f"There is no vocabulary {file.name}.", path=str(file)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"The vocabulary {file.name} cannot be read.", path=str(file)) from error
        self._ids = {token: index for index, token in enumerate(lines)}
        missing = [token for token in (PAD, UNKNOWN, START, END) if token not in self._ids]
        if missing or self._ids[PAD] != 0:
            raise CheckpointError(f"The vocabulary {file.name} is none of BERT's.", path=str(file), missing=missing)
        self._pieces = lru_cache(maxsize=_MAX_CACHED_WORDS)(self._split_word)

    def encode(self, text: str, max_tokens: int) -> TokenIds:
        """`[L]` from start to end, cut with the end kept.

        Args:
            text: Any text.
            max_tokens: The most ids, both ends included.

        Raises:
            InvalidFieldError: The text holds half of a surrogate pair.
        """
        ids = self._first_ids(text, max_tokens - 2)[: max_tokens - 2]
        return np.array([self._ids[START], *ids, self._ids[END]], dtype=np.int64)

    def cuts(self, text: str, max_tokens: int) -> bool:
        """Whether a text has more ids than that.

        Args:
            text: Any text.
            max_tokens: The most ids, both ends included.
        """
        return len(self._first_ids(text, max_tokens - 1)) > max_tokens - 2

    def _first_ids(self, text: str, most: int) -> list[int]:
        require_utf8(text)
        ids: list[int] = []
        for word in _words(text):
            if len(ids) >= most:
                break
            ids += self._pieces(word)
        return ids

    def _split_word(self, word: str) -> tuple[int, ...]:
        if len(word) > _MAX_WORD_CHARS:
            return (self._ids[UNKNOWN],)
        ids: list[int] = []
        start = 0
        while start < len(word):
            prefix = _CONTINUED if start else ""
            pieces = ((end, prefix + word[start:end]) for end in range(len(word), start, -1))
            found = next(((end, self._ids[piece]) for end, piece in pieces if piece in self._ids), None)
            if found is None:
                return (self._ids[UNKNOWN],)
            start = found[0]
            ids.append(found[1])
        return tuple(ids)


def _words(text: str) -> Iterator[str]:
    """Words and single punctuation marks, lower case and without accents."""
    for spaced in unicodedata.normalize("NFC", "".join(map(_clean, text))).split():
        plain = unicodedata.normalize("NFD", spaced.lower())
        letters = [char for char in plain if unicodedata.category(char) != "Mn"]
        yield from "".join(f" {char} " if _is_punctuation(char) else char for char in letters).split()


def _clean(char: str) -> str:
    if char in "\t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if char == "\ufffd" or unicodedata.category(char).startswith("C"):
        return ""
    code = ord(char)
    return f" {char} " if any(low <= code <= high for low, high in _CHINESE) else char


def _is_punctuation(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
