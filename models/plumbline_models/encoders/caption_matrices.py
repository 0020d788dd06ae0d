"""Captions that meet many images, kept as matrices."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class CaptionMatrix:
    """What one product with image embeddings turns into cosines and attributions."""

    rows: NDArray[np.float32]
    """`[1 + J, D]`: the caption's unit embedding, then a vector for each token, prefix first."""

    def read(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines `[N]` and attributions `[N, J]` of N image embeddings `[N, D]`."""
        products = images @ self.rows.T
        return products[:, 0], products[:, 1:]


class CaptionMatrices:
    """A bounded store by caption; for one thread at a time."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._matrices: OrderedDict[bytes, CaptionMatrix] = OrderedDict()

    def get(self, caption: bytes) -> CaptionMatrix | None:
        """The caption's matrix, if it is kept."""
        if (matrix := self._matrices.get(caption)) is not None:
            self._matrices.move_to_end(caption)
        return matrix

    def put(self, caption: bytes, matrix: CaptionMatrix) -> None:
        """Keep a matrix; those unused for longest make room, but never this one."""
        if (replaced := self._matrices.pop(caption, None)) is not None:
            self._num_bytes -= replaced.rows.nbytes
        self._matrices[caption] = matrix
        self._num_bytes += matrix.rows.nbytes
        while self._num_bytes > self._max_bytes and len(self._matrices) > 1:
            _, dropped = self._matrices.popitem(last=False)
            self._num_bytes -= dropped.rows.nbytes
