"""Runs a graph that OpenVINO compiled."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from plumbline_models.backends.inputs import arrange_inputs
from plumbline_models.backends.openvino_runtime import import_openvino
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from plumbline_models.core.protocols import EngineInfo


class OpenVinoEngine:
    """One compiled graph and one request, reused for every batch.

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
        self._request = compiled.create_infer_request()
        self._tensor = import_openvino().Tensor

    @property
    def info(self) -> EngineInfo:
        """What was compiled, by what, for which device."""
        return self._info

    @property
    def num_layers(self) -> int:
        """Operations that are left once OpenVINO has fused what it can."""
        return len(self._request.get_compiled_model().get_runtime_model().get_ops())

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run one batch; see `Engine.run`."""
        arrays, _ = arrange_inputs(self._info.graph, self._specs, inputs)
        try:
            for index, array in enumerate(arrays):
                # The runtime borrows the caller's memory, but takes none that is read-only.
                borrowed = array if array.flags.writeable else array.copy()
                self._request.set_input_tensor(index, self._tensor(borrowed, shared_memory=True))
            self._request.infer()
        except RuntimeError as error:
            raise EngineError(
                f"The graph {self._info.graph} failed on a batch.",
                graph=self._info.graph,
                shapes=[list(array.shape) for array in arrays],
                reason=str(error),
            ) from error
        return {
            name: np.array(self._request.get_output_tensor(index).data, copy=True)
            for index, name in enumerate(self._outputs)
        }
