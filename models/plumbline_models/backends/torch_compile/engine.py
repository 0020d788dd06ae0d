"""Runs a graph that torch compiled."""

from collections.abc import Mapping, Sequence

import numpy as np

from plumbline_models.backends.agreement import Sizes, draw_inputs
from plumbline_models.backends.buckets import bucket_of
from plumbline_models.backends.inputs import arrange_inputs, is_counted_elsewhere, rows_dimension
from plumbline_models.backends.splitting import BatchSplitter, Outputs
from plumbline_models.backends.torch_compile.launches import Launcher
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph


class CompiledTorchEngine:
    """One graph's compiled module; inputs and outputs are float32 or whole numbers, whatever its precision.

    Args:
        graph: What was compiled.
        launcher: Runs it on the device.
        largest: Rows that one run takes; larger batches are run in parts.
        info: What it is.
    """

    def __init__(self, graph: Graph, *, launcher: Launcher, largest: int, info: EngineInfo) -> None:
        rows = rows_dimension(graph)
        self._graph = graph
        self._has_rows = [spec.shape[0] == rows for spec in graph.inputs]
        self._is_filled = launcher.has_few_shapes and not is_counted_elsewhere(graph, rows)
        self._largest = largest
        self._splitter = BatchSplitter(graph, largest)
        self._launcher = launcher
        self._info = info

    @property
    def info(self) -> EngineInfo:
        """What runs, on which device."""
        return self._info

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        """Run one batch; see `Engine.run`. What is too large for one run, or for memory, is run in parts."""
        arrays, _ = arrange_inputs(self._info.graph, self._graph.inputs, inputs)
        return self._splitter.run(arrays, self._run)

    def warm_up(self, sizes: Sizes) -> None:
        """Run batches of some sizes as often as it takes until they are recorded.

        Args:
            sizes: Of the inputs' dimensions, by name.

        Raises:
            EngineError: They do not run.
        """
        for _ in range(self._launcher.num_warm_ups):
            self.run(draw_inputs(self._graph, sizes, num_inputs=self._largest))

    def _run(self, arrays: Sequence[Array]) -> Outputs:
        num_rows = next(len(array) for array, has in zip(arrays, self._has_rows, strict=True) if has)
        run_rows = bucket_of(num_rows, self._largest) if self._is_filled else num_rows
        filled = [_filled(array, run_rows) if has else array for array, has in zip(arrays, self._has_rows, strict=True)]
        try:
            results = self._launcher.run(filled)
        except RuntimeError as error:  # of torch's compiler too
            name = self._info.graph
            raise EngineError(f"The graph {name} failed on a batch.", graph=name, reason=str(error)) from error
        if len(results) != len(self._graph.outputs):
            raise EngineError(
                f"The graph {self._info.graph} gives {len(results)} outputs, not {', '.join(self._graph.outputs)}.",
                graph=self._info.graph,
            )
        pairs = zip(self._graph.outputs, results, strict=True)
        return {name: result[:num_rows] if self._is_filled else result for name, result in pairs}


def _filled(array: Array, num_rows: int) -> Array:
    """With rows of zeros at the end."""
    if len(array) == num_rows:
        return array
    blank = np.zeros((num_rows - len(array), *array.shape[1:]), dtype=array.dtype)
    return np.concatenate([array, blank])
