"""Sizes that batches of texts and pairs are filled up to, so that an engine meets few shapes.

OpenVINO keeps code and memory for each shape that it has met, hundreds of kilobytes, and a text's shape has its length
in it besides. Left alone, rare sizes are met for the first time for hours, and memory grows as long. Up to 8 every
size is one; beyond there are four an octave (10 12 14 16 20 24 28 32 40 …), so that at most 7 rows of 40 are filling.
"""

from collections.abc import Sequence

import numpy as np

from plumbline_models.core.arrays import Array, TokenIds

ALL_UP_TO = 8


def batch_size_for(num_rows: int, largest: int) -> int:
    """The smallest size that holds so many rows.

    Args:
        num_rows: At least 1, at most `largest`.
        largest: What the engine takes; a size itself.
    """
    step = max(1, 2 ** (num_rows - 1).bit_length() // ALL_UP_TO)
    return min(largest, -(-num_rows // step) * step)


def stack_ids(rows: Sequence[TokenIds], length: int, largest: int) -> Array:
    """Tokens of a text a row, filled up with 0 to a length, and with rows as `fill_rows` does."""
    stacked = np.zeros((len(rows), length), dtype=np.int64)
    for row, ids in zip(stacked, rows, strict=True):
        row[: len(ids)] = ids
    return fill_rows(stacked, largest)


def fill_rows(array: Array, largest: int) -> Array:
    """An array of one row an input, its last row repeated until its length is such a size."""
    missing = batch_size_for(len(array), largest) - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode="edge") if missing else array
