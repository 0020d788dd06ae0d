"""Captions that meet many images, kept as matrices."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Array
from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.core.protocols import OnLookup
from plumbline_models.networks.attribution.pairs import cosines_of

MAX_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class CaptionMatrix:
    """What products with image embeddings turn into cosines and attributions."""

    vectors: NDArray[np.float32]
    """`[1 + J, D]`: the caption's unit embedding, then a vector for each token, prefix first."""

    def read(self, images: NDArray[np.float32]) -> tuple[Array, NDArray[np.float32]]:
        """Cosines `[N]` and attributions `[N, J]` of N image embeddings `[N, D]`."""
        return cosines_of(self.vectors[0], images), images @ self.vectors[1:].T


class CaptionMatrices:
    """A bounded store by caption.

    Args:
        max_bytes: Of all matrices together; 0 keeps none.
        on_lookup: Told `caption` and whether the matrix was kept, at each look-up.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, *, on_lookup: OnLookup | None = None) -> None:
        self._matrices: ByteBoundedCache[bytes, CaptionMatrix] = ByteBoundedCache(
            max_bytes, lambda each: each.vectors.nbytes
        )
        self._on_lookup = on_lookup

    def get(self, caption: bytes) -> CaptionMatrix | None:
        """The caption's matrix, if it is kept."""
        matrix = self._matrices.get(caption)
        if self._on_lookup is not None:
            self._on_lookup("caption", matrix is not None)
        return matrix

    def put(self, caption: bytes, matrix: CaptionMatrix) -> None:
        """Keep a matrix, unless it alone is too large; those unused for longest make room.

        Args:
            caption: Its bytes, which it is found by.
            matrix: What the caption's tokens contribute.
        """
        self._matrices.put(caption, matrix)
