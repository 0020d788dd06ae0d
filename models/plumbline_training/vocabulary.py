"""The few tokens that scenes are told in, as rows of a small table that is spread over CLIP's large one."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from open_clip import SimpleTokenizer

from plumbline_models.networks.clip.tokenizer import ClipTokenizer
from plumbline_training.captions import COUNT_WORDS, LEADS
from plumbline_training.scenes import COLOURS, FILLS, OPPOSITES, SHAPES

NUM_CLIP_TOKENS = 49408
CONTEXT = 77
MARKS = ", . : ; ! ? \" '"
EXTRA = "a an and is are on of to the in background there photo image picture depicts solid with one drawing"
WORLD = (
    *COLOURS, *FILLS, "small", "large", *OPPOSITES, *COUNT_WORDS.values(), *LEADS, EXTRA,
    *(shape + ending for shape in SHAPES for ending in ("", "es" if shape.endswith("s") else "s")),
)  # fmt: skip
"""Every word that scenes are told in."""


class Vocabulary:
    """Maps CLIP's token ids to rows `0 .. num_rows - 1` and back.

    Row 0 stands for every token that scenes never use. The last row is end-of-text, so that the position of
    the largest row is the position of the largest id, which is how CLIP finds the end of a text.
    """

    def __init__(self) -> None:
        self._tokenizer = SimpleTokenizer()
        known = {token for text in (*WORLD, MARKS) for token in self._tokenizer.encode(text)}
        self._sot, self._eot = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        self.known_ids: tuple[int, ...] = (*sorted(known), self._sot, self._eot)

    @property
    def num_rows(self) -> int:
        """Known tokens and the one row for all the others."""
        return len(self.known_ids) + 1

    @cached_property
    def row_of_id(self) -> NDArray[np.int64]:
        """`[49408]`: the row that each of CLIP's tokens uses."""
        rows = np.zeros(NUM_CLIP_TOKENS, dtype=np.int64)
        rows[list(self.known_ids)] = np.arange(1, self.num_rows)
        return rows

    def ids(self, text: str) -> list[int]:
        """CLIP's token ids of a text from start-of-text to end-of-text, cut to the context."""
        inner = self._tokenizer.encode(text)[: CONTEXT - 2]
        return [self._sot, *inner, self._eot]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """`[start, end)` character offsets of a text's tokens, without start and end of text."""
        return list(ClipTokenizer(CONTEXT).encode(text).spans)

    def batch(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """`[N, L]` rows, zero-padded to the longest text of the batch."""
        listed = [self.row_of_id[self.ids(text)] for text in texts]
        rows = np.zeros((len(listed), max(len(one) for one in listed)), dtype=np.int64)
        for place, one in enumerate(listed):
            rows[place, : len(one)] = one
        return rows
