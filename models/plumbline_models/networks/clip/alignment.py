"""Which characters of a text became which characters of its cleaned form.

Cleaning is done by others (ftfy, html), who say what came out but not of what. An alignment is worked out
afterwards: exactly where the change can be followed, and otherwise over the smallest stretch that certainly holds
it. It is made only as far as it is needed, and takes time linear in that.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import ftfy
import regex

_ENTITY = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")  # what html.unescape looks at
_PIECE = re.compile(r"\s+|\S+")
_ANCHOR = re.compile(r"[A-Za-z0-9]{3,}")  # words that ftfy leaves alone, by which to find the way back
_REACH = 256  # characters of output searched for an anchor
# What ftfy repairs as one: an entity, a terminal's escape, or a letter with its marks.
_UNIT = regex.compile(r"&#?[0-9A-Za-z]{1,24};|\x1b\[[\d;]*[A-Za-z]|\X")
_MAX_CACHED_CHARS = 64


@dataclass(slots=True)
class Alignment:
    """For each character of a cleaned text, the stretch of the original that it was made of.

    Starts and ends never decrease, and every stretch holds at least one character of the original.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, original: str, cleaned: str, start: int) -> None:
        """Append the stretch `original`, which begins at `start` and was cleaned to `cleaned`.

        Args:
            original: A stretch of the text as sent.
            cleaned: What became of it.
            start: Where it begins in the text as sent.
        """
        if original == cleaned:
            self.add_same(len(cleaned), start)
            return
        units = _UNIT.findall(original)
        results = [_fix(unit) for unit in units]
        if "".join(results) != cleaned:
            self._add_changed_middle(original, cleaned, start)
            return
        for unit, result in zip(units, results, strict=True):
            end = start + len(unit)
            if len(unit) == len(result):
                self.add_same(len(unit), start)
            else:
                self.add_whole(len(result), start, end)
            start = end

    def add_same(self, length: int, start: int) -> None:
        """Append characters that each became one, from the original's `start` on.

        Args:
            length: In characters.
            start: Where they begin in the text as sent.
        """
        self.starts += range(start, start + length)
        self.ends += range(start + 1, start + length + 1)

    def add_whole(self, num_cleaned: int, start: int, end: int) -> None:
        """Append cleaned characters that were all made of the same stretch.

        Args:
            num_cleaned: Characters of the cleaned text.
            start: Where the stretch begins in the text as sent.
            end: Where it ends.
        """
        if start == end:  # made of nothing: let the neighbour stand for it
            start, end = (start - 1, end) if start > 0 else (start, end + 1)
        self.starts += [start] * num_cleaned
        self.ends += [end] * num_cleaned

    def _add_changed_middle(self, original: str, cleaned: str, start: int) -> None:
        shorter = min(len(original), len(cleaned))
        head = next((i for i in range(shorter) if original[i] != cleaned[i]), shorter)
        most = shorter - head
        tail = next((i for i in range(most) if original[-1 - i] != cleaned[-1 - i]), most)
        if head > 0 and head + tail == len(cleaned):
            head -= 1  # nothing but a gap: the character before it stands for it
        end = start + len(original) - tail
        self.add_same(head, start)
        self.add_whole(len(cleaned) - head - tail, start + head, end)
        self.add_same(tail, end)


def align_fixed(original: str, fixed: str, limit: int) -> Alignment:
    """Align a text with what `ftfy.fix_text` made of it, for at least the first `limit` characters of the latter.

    Each piece between spaces is repaired alone. While the results follow one another in `fixed`, the pieces are
    aligned one by one. Where they do not, because the repair of one piece hung on another, everything up to the
    next plain word that is found again counts as one.

    Args:
        original: As sent.
        fixed: What became of it.
        limit: In characters of `fixed`.
    """
    alignment = Alignment()
    done, waiting = 0, 0  # in `fixed`, in `original`
    for start, piece in _pieces(original):
        if done >= limit:
            return alignment
        if waiting == start:
            cleaned = next((form for form in _forms(piece) if fixed.startswith(form, done)), None)
            if cleaned is None:
                continue
        else:
            found = fixed.find(piece, done, done + _REACH) if _ANCHOR.fullmatch(piece) else -1
            if found < 0:
                continue
            alignment.add(original[waiting:start], fixed[done:found], waiting)
            done, cleaned = found, piece
        alignment.add(piece, cleaned, start)
        done, waiting = done + len(cleaned), start + len(piece)
    alignment.add(original[waiting:], fixed[done:], waiting)
    return alignment


def align_unescaped(original: str, limit: int) -> Alignment:
    """Align a text with what `html.unescape` makes of it, for at least the first `limit` characters of the latter.

    Args:
        original: As sent.
        limit: In characters of the unescaped text.
    """
    alignment = Alignment()
    done = 0
    for entity in _ENTITY.finditer(original):
        if len(alignment.starts) >= limit:
            return alignment
        alignment.add_same(entity.start() - done, done)
        done = entity.end()
        unescaped = html.unescape(entity[0])
        if unescaped == entity[0]:
            alignment.add_same(len(unescaped), entity.start())
        else:
            alignment.add_whole(len(unescaped), entity.start(), done)
    alignment.add_same(len(original) - done, done)
    return alignment


def align_lowered(original: str, limit: int) -> Alignment:
    """Align a text with its lower case, for at least the first `limit` characters of the latter.

    Args:
        original: As sent.
        limit: In characters of the original.
    """
    alignment = Alignment()
    for index, char in enumerate(original[:limit]):
        alignment.add_whole(len(char.lower()), index, index + 1)
    return alignment


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    for piece in _PIECE.finditer(text):
        yield piece.start(), piece[0]


def _forms(piece: str) -> Iterator[str]:
    """What a piece may have become: repaired, or repaired but for its entities, which stay in a line with markup."""
    if piece.isascii() and piece.isalnum():
        yield piece
        return
    yield _fix(piece)
    if "&" in piece:
        yield ftfy.fix_text(piece, unescape_html=False)


def _fix(piece: str) -> str:
    return _fix_cached(piece) if len(piece) <= _MAX_CACHED_CHARS else ftfy.fix_text(piece)


_fix_cached = lru_cache(maxsize=8192)(ftfy.fix_text)
