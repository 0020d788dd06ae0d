"""What a JSON text holds, found before it is parsed: how many values, and where its long strings stand.

Nothing here makes an object per value, and other threads get their turn between the pieces.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SCAN_BYTES = 2**16
"""Looked at in one go: a piece without a quote, of which images in base64 are full, is passed over."""
LONG_BYTES = 4096
"""A string of more bytes is a long one."""

_COMMA, _COLON, _QUOTE, _BRACKET, _BRACE = b',:"[{'
_QUOTATION_MARK = b'"'
_ESCAPED_BACKSLASH, _ESCAPED_QUOTE, _NEITHER = b"\\\\", b'\\"', b"__"


@dataclass(slots=True)
class Survey:
    """Counts of what stands outside of strings."""

    num_commas: int = 0
    num_colons: int = 0
    num_containers: int = 0
    """Arrays and objects."""
    num_strings: int = 0
    long_strings: list[tuple[int, int]] = field(default_factory=list)
    """Offsets of the first byte and behind the last, without the quotes."""
    ends_inside: bool = False
    """Whether a string has begun and not ended."""

    def pieces(self, body: bytes | bytearray) -> Iterator[None]:
        """Look at a text piece by piece, and add what is found to the counts.

        Args:
            body: UTF-8. Where it is no JSON the counts say nothing.
        """
        begun: int | None = None
        for start, piece in _without_escapes(body):
            if begun is not None and _QUOTATION_MARK not in piece:
                continue
            found = np.frombuffer(piece, np.uint8)
            is_quote = found == _QUOTE
            is_outside = np.logical_xor.accumulate(is_quote)
            if begun is None:
                np.logical_not(is_outside, out=is_outside)
            self.num_commas += int(np.count_nonzero(is_outside & (found == _COMMA)))
            self.num_colons += int(np.count_nonzero(is_outside & (found == _COLON)))
            self.num_containers += int(np.count_nonzero(is_outside & ((found == _BRACKET) | (found == _BRACE))))
            begun = self._pair(np.flatnonzero(is_quote) + start, begun)
            self.ends_inside = begun is not None
            yield

    def _pair(self, quotes: npt.NDArray[np.int64], begun: int | None) -> int | None:
        """Note the strings that end in a piece; returns where one begins that does not, None where none does."""
        bounds = quotes if begun is None else np.concatenate(([begun], quotes))
        is_open = len(bounds) % 2 == 1
        pairs = bounds[: len(bounds) - is_open].reshape(-1, 2)
        self.num_strings += len(pairs)
        long = pairs[pairs[:, 1] - pairs[:, 0] > LONG_BYTES]
        self.long_strings += [(int(first) + 1, int(last)) for first, last in long]
        return int(bounds[-1]) if is_open else None


def num_structural(body: bytes | bytearray) -> int:
    """How many commas, colons and opening brackets there are, those in strings too: no text has more values."""
    found = np.frombuffer(body, np.uint8)
    return sum(int(np.count_nonzero(found == each)) for each in (_COMMA, _COLON, _BRACKET, _BRACE))


def _without_escapes(body: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    """The text in pieces with their offsets, where nothing stands for a quote or a backslash in a string."""
    is_escaped = False
    whole = memoryview(body)
    for start in range(0, len(body), SCAN_BYTES):
        piece = bytes(whole[start : start + SCAN_BYTES])
        if is_escaped:
            piece = _NEITHER[:1] + piece[1:]
        piece = piece.replace(_ESCAPED_BACKSLASH, _NEITHER)
        is_escaped = piece.endswith(b"\\")
        yield start, piece.replace(_ESCAPED_QUOTE, _NEITHER)
