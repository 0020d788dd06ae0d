"""Makes engines of plans: deserialises them, gives them their weights, and a context to run in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from plumbline_models.backends.tensorrt.compiler import PlanSpec
from plumbline_models.backends.tensorrt.device import gpu_lane
from plumbline_models.backends.tensorrt.engine import TensorRtEngine
from plumbline_models.backends.tensorrt.launches import Launcher, new_context
from plumbline_models.backends.tensorrt.library import TensorRtLibrary
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

_MAX_REASON: Final = 2000
_ALIGNMENT: Final = 256  # bytes, of every address that TensorRT is given


class TensorRtLoader:
    """Makes engines of plans; see `backend.PlanLoader`.

    Args:
        library: Deserialises them.
        name: Of the backend.
        records: Whether launches are recorded as CUDA graphs.
    """

    def __init__(self, library: TensorRtLibrary, *, name: str, records: bool = True) -> None:
        self._library = library
        self._name = name
        self._records = records

    def open(self, graph: Graph, content: Any) -> Any:
        """Deserialise a plan; see `PlanLoader.open`.

        Args:
            graph: Whose plan it is.
            content: Its bytes.
        """
        log = self._library.new_logger()
        try:
            opened = self._library.api.Runtime(log).deserialize_cuda_engine(content)
        except (RuntimeError, TypeError) as error:
            # The bindings have no object to give where there is no driver.
            log.errors.append(str(error))
            opened = None
        if opened is None:
            raise EngineError(
                f"{self._library.package} cannot load the engine of {graph.name} here.",
                graph=graph.name,
                reason="; ".join(log.errors)[:_MAX_REASON],
            )
        return opened

    def start(self, spec: PlanSpec, opened: Any) -> TensorRtEngine:
        """Make an engine ready to run; see `PlanLoader.start`.

        Args:
            spec: The plan's.
            opened: As `open` gave it.
        """
        graph = spec.graph
        weights = _read_weights(graph, spec.parts.weights_file) if spec.parts is not None else {}
        _check_names(opened, graph, weights)
        lane = gpu_lane()
        context = new_context(self._library, opened, records=self._records)
        if context is None:
            raise EngineError(f"{self._library.package} cannot make a context for {graph.name}.", graph=graph.name)
        self._bind(graph, opened, context=context, weights=weights)
        launcher = Launcher(
            context,
            lane.compute,
            graph=graph.name,
            records=self._records and not self._library.captures_graphs,
            weights=tuple(weights.values()),
        )
        info = EngineInfo(
            graph=graph.name, backend=self._name, precision=spec.precision, device="cuda", key=spec.key.digest
        )
        return TensorRtEngine(graph, spec.profile, launcher=launcher, lane=lane, info=info)

    def _bind(self, graph: Graph, opened: Any, *, context: Any, weights: Mapping[str, torch.Tensor]) -> None:
        types = self._library.api.DataType
        kinds = {torch.float32: types.FLOAT, torch.float16: types.HALF, torch.bfloat16: types.BF16}
        for name, tensor in weights.items():
            is_fitting = (
                tuple(opened.get_tensor_shape(name)) == tuple(tensor.shape)
                and opened.get_tensor_dtype(name) == kinds.get(tensor.dtype)
                and context.set_tensor_address(name, tensor.data_ptr())
            )
            if not is_fitting:
                raise EngineError(f"The engine of {graph.name} does not take its weight {name}.", graph=graph.name)


def _read_weights(graph: Graph, file: Path) -> dict[str, torch.Tensor]:
    try:
        weights = load_file(file, device="cuda")
        aligned = {name: each if each.data_ptr() % _ALIGNMENT == 0 else each.clone() for name, each in weights.items()}
        torch.cuda.current_stream().synchronize()  # engines run on another
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EngineError(
            f"The weights of {graph.name} cannot be loaded onto the GPU.",
            graph=graph.name,
            reason=str(error)[:_MAX_REASON],
        ) from error
    return aligned


def _check_names(opened: Any, graph: Graph, weights: Mapping[str, torch.Tensor]) -> None:
    names = {opened.get_tensor_name(index) for index in range(opened.num_io_tensors)}
    if names != {*(spec.name for spec in graph.inputs), *graph.outputs, *weights}:
        raise EngineError(f"The graph {graph.name} lost an input or an output when it was compiled.", graph=graph.name)
