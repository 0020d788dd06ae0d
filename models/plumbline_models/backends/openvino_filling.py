"""Sizes that batches of texts and pairs are filled up to, so that OpenVINO meets few shapes.

It keeps code and memory for each shape that it has met, hundreds of kilobytes, and a text's shape has its length in it
besides. Left alone, rare sizes are met for the first time for hours, and memory grows as long. Up to 8 every size is
one; beyond there are four an octave (10 12 14 16 20 24 28 32 40 …), so that at most 7 rows of 40 are filling.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from plumbline_models.backends.buckets import bucket_of
from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import Dim, Graph

NUM_AN_OCTAVE = 4


class Filling:
    """What is filled up and cut of one graph; see `Graph.fillable`."""

    def __init__(self, graph: Graph) -> None:
        self._inputs = [_fillable(graph, spec.shape) for spec in graph.inputs]
        shapes = graph.output_shapes or [()] * len(graph.outputs)
        self._outputs = [_fillable(graph, shape) for shape in shapes]

    def fill(self, arrays: Sequence[Array]) -> list[Array]:
        """Inputs, each with its last row repeated as often as it takes."""
        pairs = zip(arrays, self._inputs, strict=True)
        return [array if dim is None else fill_rows(array, dim.high) for array, dim in pairs]

    def num_rows(self, sizes: Mapping[str, int]) -> list[int | None]:
        """Rows of each output that are the caller's; None: all.

        Args:
            sizes: Of the caller's dimensions, by name.
        """
        return [None if dim is None else sizes[dim.name] for dim in self._outputs]


def fill_rows(array: Array, largest: int) -> Array:
    """An array with its last row repeated until its length is one of the sizes."""
    missing = bucket_of(len(array), largest, num_an_octave=NUM_AN_OCTAVE) - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode="edge") if missing else array


def _fillable(graph: Graph, shape: Sequence[int | Dim]) -> Dim | None:
    first = shape[0] if shape else None
    return first if isinstance(first, Dim) and first.name in graph.fillable else None
