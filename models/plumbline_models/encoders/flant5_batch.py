"""Pairs as the arrays of one batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from plumbline_models.core.arrays import Array, TokenIds
from plumbline_models.encoders.flant5_image import ImageRows

TAIL_STEP: Final = 8
ANSWER_STEP: Final = 2
"""Tokens are filled up to multiples of these, so that an engine meets few shapes."""


@dataclass(frozen=True, slots=True)
class PreparedPair:
    """A caption in the words of the question, and the image that it is held against."""

    image_rows: ImageRows
    tail_ids: TokenIds
    """`[L]`: all that stands behind the image."""
    answer_ids: TokenIds
    """`[K]`, end-of-sequence last."""


def arrange_pairs(batch: Sequence[PreparedPair], head_ids: TokenIds, start_id: int) -> dict[str, Array]:
    """The inputs of `flant5_score`.

    Args:
        batch: At least one pair.
        head_ids: `[H]`: all that stands before the image.
        start_id: What the decoder reads first.
    """
    answer_ids = _pad([pair.answer_ids for pair in batch], ANSWER_STEP)
    read_ids = np.roll(answer_ids, 1, axis=1)
    read_ids[:, 0] = start_id
    return {
        "image_rows": np.stack([pair.image_rows for pair in batch]).astype(np.float32, copy=False),
        "head_ids": np.tile(head_ids, (len(batch), 1)),
        "tail_ids": _pad([pair.tail_ids for pair in batch], TAIL_STEP),
        "read_ids": read_ids,
        "answer_ids": answer_ids,
    }


def _pad(rows: Sequence[TokenIds], step: int) -> TokenIds:
    """Rows side by side, filled up with 0 to a multiple of `step`, so that an engine meets few shapes."""
    length = math.ceil(max(len(row) for row in rows) / step) * step
    padded = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
