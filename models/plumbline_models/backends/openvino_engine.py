"""Runs a graph that OpenVINO compiled."""

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from plumbline_models.backends.inputs import arrange_inputs
from plumbline_models.backends.openvino_filling import Filling
from plumbline_models.backends.openvino_runtime import import_openvino
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EngineInfo


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
