"""Runs a batch in parts where it is larger than an engine takes, or than memory holds."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from plumbline_models.backends.inputs import is_counted_elsewhere, rows_dimension
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph, TensorSpec

logger = logging.getLogger(__name__)

Outputs: TypeAlias = Mapping[str, Array]
Run: TypeAlias = Callable[[Sequence[Array]], Outputs]


class OutOfDeviceMemoryError(Exception):
    """A batch did not fit beside what the device holds; never leaves the backends."""


class BatchSplitter:
    """Splits batches along the dimension that the outputs begin with; inputs without it go to every part.

    Where that is a length, counted along another axis too, there is one part.

    Args:
        graph: Whose batches.
        largest: Rows that one run takes.
    """

    def __init__(self, graph: Graph, largest: int) -> None:
        self._graph = graph.name
        self._specs: tuple[TensorSpec, ...] = graph.inputs
        self._dim = rows_dimension(graph)
        self._is_whole = is_counted_elsewhere(graph, self._dim)
        self._largest = self._dim.high if self._is_whole else largest

    def run(self, arrays: Sequence[Array], run: Run) -> Outputs:
        """Run a batch, in as few parts as it takes.

        Args:
            arrays: In the order of the graph's inputs.
            run: Runs a part; raises `OutOfDeviceMemoryError` where it does not fit, having given everything back.

        Raises:
            EngineError: Not even one row fits.
        """
        num_rows = self._num_rows(arrays)
        if num_rows > self._largest:
            starts = range(0, num_rows, self._largest)
            return _join([self.run(self._part(arrays, first, first + self._largest), run) for first in starts])
        try:
            return run(arrays)
        except OutOfDeviceMemoryError as error:
            if num_rows == 1 or self._is_whole:
                raise EngineError(
                    f"The device has no memory left for the graph {self._graph}, and the batch cannot be cut further.",
                    graph=self._graph,
                    shapes=[list(array.shape) for array in arrays],
                ) from error
        middle = num_rows // 2
        logger.warning(
            "The device has no memory left for %d rows of %s, they are run in halves.",
            num_rows,
            self._graph,
            extra={"graph": self._graph, "num_rows": num_rows},
        )
        return _join([self.run(self._part(arrays, *ends), run) for ends in ((0, middle), (middle, num_rows))])

    def _num_rows(self, arrays: Sequence[Array]) -> int:
        return next(len(array) for array, spec in zip(arrays, self._specs, strict=True) if spec.shape[0] == self._dim)

    def _part(self, arrays: Sequence[Array], first: int, end: int) -> list[Array]:
        return [
            array[first:end] if spec.shape[0] == self._dim else array
            for array, spec in zip(arrays, self._specs, strict=True)
        ]


def _join(parts: Sequence[Outputs]) -> Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
