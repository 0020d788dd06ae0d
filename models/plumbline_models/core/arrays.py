"""The arrays that travel between steps.

The letters: N inputs of a batch, H and W pixels, D embedding width, L tokens. A name carries its shape; the
alias carries the dtype, which mypy and pyright check.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""`[H, W, 3]` RGB, row by row, as decoded."""

ResizedPixels: TypeAlias = NDArray[np.uint8]
"""`[H, W, 3]` RGB, resized and cropped to what an encoder takes. Normalised inside the graph, not before."""

LetterboxedPixels: TypeAlias = NDArray[np.float32]
"""`[H, W, 3]` RGB, resized as floats, about 0 to 1. Normalised inside the graph."""

TokenIds: TypeAlias = NDArray[np.int64]
"""`[L]` from start-of-text to end-of-text, both included, without padding."""

Embedding: TypeAlias = NDArray[np.float32]
"""`[D]`, unit norm."""

ScoresN: TypeAlias = NDArray[np.float32]
"""`[N]`, in the range that the scorer's info states."""

Array: TypeAlias = NDArray[Any]
"""Any engine input or output; the graph says its shape and dtype."""
