"""Captions that meet many images, kept as matrices."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Embedding

MAX_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class CaptionMatrix:
    """What a product with image embeddings turns into cosines and attributions."""

    embedding: Embedding
    """`[D]` float32 of unit norm."""
    vectors: NDArray[np.float32]
    """`[J, D]` float32, one a token, prefix first."""

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return int(self.embedding.nbytes + self.vectors.nbytes)


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
        self._matrices[caption] = matrix
        self._num_bytes += matrix.num_bytes
        while self._num_bytes > self._max_bytes and len(self._matrices) > 1:
            _, dropped = self._matrices.popitem(last=False)
            self._num_bytes -= dropped.num_bytes
