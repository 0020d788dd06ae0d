"""Runs a graph that TensorRT compiled."""

from collections.abc import Mapping, Sequence

import torch

from plumbline_models.backends.buckets import bucket_of
from plumbline_models.backends.inputs import arrange_inputs, is_counted_elsewhere, rows_dimension
from plumbline_models.backends.splitting import BatchSplitter, Outputs
from plumbline_models.backends.tensorrt.buffers import EngineBuffers
from plumbline_models.backends.tensorrt.device import GpuLane
from plumbline_models.backends.tensorrt.launches import Launcher
from plumbline_models.backends.tensorrt.profiles import InputProfile
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph


class TensorRtEngine:
    """One engine with its context and buffers; see `device` for what engines share.

    Args:
        profile: The sizes that it was made for.
        launcher: Of its context, which is bound to no memory yet.
    """

    def __init__(
        self,
        graph: Graph,
        profile: Sequence[InputProfile],
        *,
        launcher: Launcher,
        lane: GpuLane,
        info: EngineInfo,
    ) -> None:
        rows = rows_dimension(graph)
        self._specs = graph.inputs
        self._outputs = graph.outputs
        self._has_rows = [spec.shape[0] == rows for spec in graph.inputs]
        self._is_filled = not is_counted_elsewhere(graph, rows)
        self._largest = next(p.largest[0] for p, has in zip(profile, self._has_rows, strict=True) if has)
        self._splitter = BatchSplitter(graph, self._largest)
        self._context = launcher.context
        self._launcher = launcher
        self._lane = lane
        self._buffers = EngineBuffers([*(spec.name for spec in graph.inputs), *graph.outputs])
        self._info = info

    @property
    def info(self) -> EngineInfo:
        """What was compiled, by what, for which device."""
        return self._info

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        """Run one batch; see `Engine.run`. What is too large for engine or memory is run in parts."""
        arrays, _ = arrange_inputs(self._info.graph, self._specs, inputs)
        return self._splitter.run(arrays, self._run)

    def _run(self, arrays: Sequence[Array]) -> Outputs:
        num_rows = next(len(array) for array, has in zip(arrays, self._has_rows, strict=True) if has)
        bucket = bucket_of(num_rows, self._largest) if self._is_filled else num_rows
        staged = {
            spec.name: self._buffers.stage(spec.name, array, bucket if has else len(array))
            for spec, array, has in zip(self._specs, arrays, self._has_rows, strict=True)
        }
        with self._lane.launching:
            self._upload(staged)
            shapes = self._bind(staged)
            results, is_done = self._launch_and_download(staged, shapes)
        is_done.synchronize()
        return {name: result.numpy()[:num_rows] for name, result in results.items()}

    def _upload(self, staged: Mapping[str, torch.Tensor]) -> None:
        with torch.cuda.stream(self._lane.upload):
            for name, tensor in staged.items():
                self._context.set_tensor_address(name, self._buffers.upload(name, tensor))
        self._lane.compute.wait_stream(self._lane.upload)

    def _bind(self, staged: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
        """Give the context its shapes and all memory; the shapes of the outputs."""
        for name, tensor in staged.items():
            if not self._context.set_input_shape(name, tuple(tensor.shape)):
                raise EngineError(
                    f"The engine of {self._info.graph} was not made for {name} of {list(tensor.shape)}.",
                    graph=self._info.graph,
                    input=name,
                )
        if missing := self._context.infer_shapes():
            raise EngineError(f"The engine of {self._info.graph} lacks {', '.join(missing)}.", graph=self._info.graph)
        with torch.cuda.stream(self._lane.compute):  # memory that it lets go is used again on this stream alone
            scratch = self._lane.scratch.take(max(1, self._context.update_device_memory_size_for_shapes()))
        self._context.set_device_memory(scratch.data_ptr(), scratch.numel())
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in shapes.items():
            self._context.set_tensor_address(name, self._buffers.place(name, shape, "float32"))
        return shapes

    def _launch_and_download(
        self, staged: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, torch.Tensor], torch.cuda.Event]:
        key = tuple(tuple(tensor.shape) for tensor in staged.values())
        self._launcher.launch(key, (self._lane.scratch.generation, self._buffers.generation))
        self._lane.download.wait_stream(self._lane.compute)
        with torch.cuda.stream(self._lane.download):
            results = {name: self._buffers.download(name, shape, "float32") for name, shape in shapes.items()}
            is_done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            is_done.record()
        return results, is_done
