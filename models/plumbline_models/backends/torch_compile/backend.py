"""torch.compile: the compiled path on GPUs where TensorRT cannot go, and the same code on CPUs, where tests run it.

A graph is compiled with free sizes, so that one compilation serves every batch, and a second one for a single row,
which the tracer takes for a constant. On a GPU batches are filled up to few sizes, and each is recorded as one CUDA
graph before the engine serves. What Inductor makes is kept beside the engine cache, so that later starts compile in
seconds. An engine that does not compile, or that gives other numbers than torch, is run by torch: see `fallback`.
"""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

import torch
import torch._dynamo.config as dynamo_config
from torch import Tensor, nn

from plumbline_models.backends.agreement import (
    References,
    Sizes,
    WrongNumbersError,
    check_agreement,
    fixed_sizes,
    num_when_built,
)
from plumbline_models.backends.buckets import bucket_of
from plumbline_models.backends.devices import c_compiler, cpu_quota
from plumbline_models.backends.fallback import BY_TORCH, Fallback
from plumbline_models.backends.inputs import is_counted_elsewhere, rows_dimension
from plumbline_models.backends.kept_references import keep_references
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.torch_backend import (
    DTYPES,
    TorchEngine,
    choose_device,
    place,
    precision_of,
    resolve_precision,
)
from plumbline_models.backends.torch_backend import devices as torch_devices
from plumbline_models.backends.torch_compile.engine import CompiledTorchEngine
from plumbline_models.backends.torch_compile.launches import CpuLauncher, CudaLauncher, Launcher
from plumbline_models.backends.tuning import Precision, PrecisionChoice, Tuning
from plumbline_models.core.engines import Engine, EngineInfo
from plumbline_models.core.errors import BackendUnavailableError, EngineError
from plumbline_models.core.graph import Dim, Graph

NAME: Final = "torch-compile"
_KERNELS: Final = "inductor"
_KERNELS_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"  # Inductor has no other way of being told
_MAX_VARIANTS: Final = 256
"""Of one piece of code, over all graphs of the process; beyond 8, its default, torch compiles nothing more."""


def open_backend(precision: PrecisionChoice, tuning: Tuning) -> "TorchCompileBackend":
    """Open torch's CUDA device if there is one and the tuning allows it, else its CPU device.

    Args:
        precision: `auto` is fp16 on a GPU, bf16 on a CPU that computes it natively, else fp32.
        tuning: As for every backend.

    Raises:
        BackendUnavailableError: A GPU is asked for and torch finds none, or there is no C compiler.
        ConfigError: int8 or fp8 is asked for.
    """
    _require_compiler()
    device = choose_device(NAME, tuning)
    return TorchCompileBackend(device, precision=resolve_precision(NAME, precision, device), tuning=tuning)


def devices() -> tuple[str, ...]:
    """What torch finds.

    Raises:
        BackendUnavailableError: There is no C compiler.
    """
    _require_compiler()
    return torch_devices()


class TorchCompileBackend:
    """Compiles graphs with torch; see `open_backend`.

    Args:
        device: A CUDA device, or the CPU.
        precision: Of graphs whose values it holds.
        tuning: As for every backend.
    """

    name = NAME

    def __init__(self, device: torch.device, *, precision: Precision, tuning: Tuning) -> None:
        self._device = device
        self._precision: Precision = precision
        self._tuning = tuning
        self._store = EngineStore(tuning.cache_dir, tuning.engines_dir)
        self._fallback = Fallback(self.name, precision, tuning)

    @property
    def precision(self) -> str:
        """`fp32`, `bf16` or `fp16`."""
        return self._precision

    def compile(self, graph: Graph) -> Engine:
        """Compile the graph's module and run every size that is recorded; torch's own engine where that fails.

        Raises:
            EngineError: torch cannot run the graph either.
        """
        torch.set_num_threads(self._tuning.num_threads or cpu_quota() or torch.get_num_threads())
        dynamo_config.recompile_limit = max(dynamo_config.recompile_limit, _MAX_VARIANTS)
        _keep_kernels(self._tuning.cache_dir.expanduser() / _KERNELS)
        try:
            return self._compile(graph)
        except (EngineError, WrongNumbersError) as error:
            self._fallback.report(graph, error, instead=BY_TORCH)
            return self._fallback.run_by_torch(graph)

    def _compile(self, graph: Graph) -> CompiledTorchEngine:
        precision = precision_of(graph, self._precision)
        module = graph.build().eval()
        references = self._refer(graph, module)
        placed = place(module, graph.name, device=self._device, precision=precision)
        info = EngineInfo(graph=graph.name, backend=self.name, precision=precision, device=str(self._device), key="")
        engine = CompiledTorchEngine(
            graph, launcher=self._launcher(graph, placed, precision), largest=self._largest(graph), info=info
        )
        check_agreement(engine, graph, references)
        for sizes in self._sizes_to_record(graph):
            engine.warm_up(sizes)
        return engine

    def _launcher(self, graph: Graph, module: nn.Module, precision: Precision) -> Launcher:
        compiled = torch.compile(_TakesFloat32(module, DTYPES[precision]), dynamic=True, fullgraph=True)
        if self._device.type == "cpu":
            return CpuLauncher(compiled)
        return CudaLauncher(compiled, graph=graph.name, records=self._tuning.records_launches)

    def _refer(self, graph: Graph, module: nn.Module) -> References:
        num_bytes = sum(weight.numel() * weight.element_size() for weight in module.parameters())
        sizes = fixed_sizes(graph, num_inputs=num_when_built(num_bytes))
        info = EngineInfo(graph=graph.name, backend="torch", precision="fp32", device="cpu", key="")
        exact = TorchEngine(module.float(), graph=graph, info=info)
        return keep_references(graph, sizes, weights=graph.fingerprint, store=self._store, run=exact.run)

    def _largest(self, graph: Graph) -> int:
        rows = rows_dimension(graph)
        bounds = [rows.high, self._tuning.largest_sizes.get(rows.name, rows.high)]
        if rows.name == "batch" and self._tuning.max_batch is not None:
            bounds.append(self._tuning.max_batch)
        return max(rows.low, min(bounds))

    def _sizes_to_record(self, graph: Graph) -> Iterator[Sizes]:
        """The shapes that are run before the engine serves: every batch, with all else as usual, and at its least.

        A size of one is compiled for itself, so that it must not come up first in a request.
        """
        rows = rows_dimension(graph)
        dims = {size.name: size for spec in graph.inputs for size in spec.shape if isinstance(size, Dim)}
        if is_counted_elsewhere(graph, rows):
            batches = [rows.typical]
        else:
            batches = list(dict.fromkeys(bucket_of(size, self._largest(graph)) for size in self._batches(graph)))
        usual = {name: self._tuning.typical_sizes.get(name, dim.typical) for name, dim in dims.items()}
        least = {name: dim.low for name, dim in dims.items() if dim.low == 1 and name != rows.name}
        for num_rows, others in product(batches, [usual, {**usual, **least}] if least else [usual]):
            chosen = {**others, rows.name: num_rows}
            yield {
                spec.name: tuple(chosen[size.name] if isinstance(size, Dim) else size for size in spec.shape)
                for spec in graph.inputs
            }

    def _batches(self, graph: Graph) -> range:
        """Those that are recorded; where nothing is, one and two are all there is to compile."""
        is_recorded = self._device.type == "cuda" and self._tuning.records_launches
        return range(1, self._largest(graph) + 1) if is_recorded else range(1, 3)


class _TakesFloat32(nn.Module):
    """A module of some precision that takes and gives float32, so that converting is compiled with it."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        results = self.module(*(each.to(self.dtype) if each.is_floating_point() else each for each in inputs))
        tensors = (results,) if isinstance(results, Tensor) else results
        return tuple(each.float() if each.is_floating_point() else each for each in tensors)


def _require_compiler() -> None:
    if c_compiler() is None:
        raise BackendUnavailableError(
            f"The {NAME} backend needs a C compiler (cc, gcc or clang), and none is on the path.", backend=NAME
        )


def _keep_kernels(folder: Path) -> None:
    """Have Inductor keep what it makes in a folder of the owner's alone, unless it was told where before."""
    if _KERNELS_VARIABLE not in os.environ:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[_KERNELS_VARIABLE] = str(folder)
