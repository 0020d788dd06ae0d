"""Runs a graph that OpenVINO compiled."""

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from plumbline_models.backends.buckets import bucket_of
from plumbline_models.backends.inputs import arrange_inputs
from plumbline_models.backends.openvino.runtime import import_openvino
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, Graph

# Sizes that batches of texts and pairs are filled up to, so that OpenVINO meets few shapes.
#
# It keeps code and memory for each shape that it has met, hundreds of kilobytes, and a text's shape has its length in
# it besides. Left alone, rare sizes are met for the first time for hours, and memory grows as long. Up to 8 every
# size is one; beyond there are four an octave (10 12 14 16 20 24 28 32 40 …), so that at most 7 rows of 40 are
# filling.

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
    """An array with its last row repeated until its length is one of the sizes.

    Args:
        array: Batch first.
        largest: The most that the graph takes.
    """
    missing = bucket_of(len(array), largest, num_an_octave=NUM_AN_OCTAVE) - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode="edge") if missing else array


def _fillable(graph: Graph, shape: Sequence[int | Dim]) -> Dim | None:
    first = shape[0] if shape else None
    return first if isinstance(first, Dim) and first.name in graph.fillable else None


class OpenVinoEngine:
    """One compiled graph and a request for each of its streams, used again and again; callers beyond those wait.

    Args:
        compiled: OpenVINO's compiled form, inputs and outputs in the graph's order.

    Raises:
        EngineError: Its inputs or outputs are not the graph's.
    """

    def __init__(self, compiled: Any, *, graph: Graph, info: EngineInfo) -> None:
        inputs = [port.get_any_name() for port in compiled.inputs]
        if inputs != [spec.name for spec in graph.inputs] or len(compiled.outputs) != len(graph.outputs):
            raise EngineError(
                f"The graph {graph.name} lost an input or an output when it was compiled.",
                graph=graph.name,
                inputs=inputs,
            )
        self._specs = graph.inputs
        self._outputs = graph.outputs
        self._info = info
        self._filling = Filling(graph)
        self._compiled = compiled
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(info.num_streams):
            self._idle.put(compiled.create_infer_request())
        self._tensor = import_openvino().Tensor

    @property
    def info(self) -> EngineInfo:
        """What was compiled, by what, for which device."""
        return self._info

    @property
    def num_layers(self) -> int:
        """Operations that are left once OpenVINO has fused what it can."""
        return len(self._compiled.get_runtime_model().get_ops())

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run one batch; see `Engine.run`."""
        arrays, sizes = arrange_inputs(self._info.graph, self._specs, inputs)
        request = self._idle.get()
        try:
            return self._infer(request, self._filling.fill(arrays), self._filling.num_rows(sizes))
        except RuntimeError as error:
            raise EngineError(
                f"The graph {self._info.graph} failed on a batch.",
                graph=self._info.graph,
                shapes=[list(array.shape) for array in arrays],
                reason=str(error),
            ) from error
        finally:
            self._idle.put(request)

    def _infer(self, request: Any, arrays: Sequence[Array], num_rows: Sequence[int | None]) -> dict[str, Array]:
        # The runtime borrows memory and takes none that is read-only; it keeps nothing alive, so this list does.
        lent = [array if array.flags.writeable else array.copy() for array in arrays]
        for index, array in enumerate(lent):
            request.set_input_tensor(index, self._tensor(array, shared_memory=True))
        request.infer()
        return {
            name: np.array(request.get_output_tensor(index).data[:rows], copy=True)
            for index, (name, rows) in enumerate(zip(self._outputs, num_rows, strict=True))
        }
