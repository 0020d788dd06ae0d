"""What eight bits take from embeddings, and how much of that is borne.

How far an embedding moves depends on the weights; so it is measured for each engine, on images that it was not
calibrated on, and one that loses too much is refused.
"""

import importlib
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

MIN_COSINE: Final = 0.995
"""Of each held-out image's embedding with what float32 gives."""
MIN_SPEARMAN: Final = 0.99
"""Of the held-out images' cosines with the float32 embeddings of the others, which stand in for captions."""
Embeddings: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Loss:
    """What an engine takes from embeddings."""

    least_cosine: float
    spearman: float

    @property
    def is_bearable(self) -> bool:
        """Whether the engine may be served; not where a number is none."""
        return self.least_cosine >= MIN_COSINE and self.spearman >= MIN_SPEARMAN

    def check(self, graph: Graph, precision: str) -> None:
        """See that it is bearable.

        Args:
            graph: What the engine computes.
            precision: In which.

        Raises:
            EngineError: It is not.
        """
        if not self.is_bearable:
            raise EngineError(
                f"The graph {graph.name} loses too much in {precision}: on images that it was not calibrated on, the "
                f"least cosine with float32 is {self.least_cosine:.4f} (at least {MIN_COSINE}), the order of scores "
                f"{self.spearman:.4f} (at least {MIN_SPEARMAN}). More calibration images may help; else use auto.",
                graph=graph.name,
            )


def measure_loss(before: Embeddings, after: Embeddings, others: Embeddings) -> Loss:
    """Compare embeddings `[N, D]` of the same images, and their scores against others `[M, D]`; all of unit norm.

    Args:
        before: In float32.
        after: In eight bits.
        others: In float32, of other images.
    """
    stats = importlib.import_module("scipy.stats")  # which takes a second, and only building needs
    cosines = np.sum(before.astype(np.float64) * after, axis=1)
    return Loss(float(cosines.min()), float(stats.spearmanr(before @ others.T, after @ others.T, axis=None).statistic))
