"""Traces a graph's torch module with symbolic sizes, within the bounds of the graph's `Dim`s."""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import Dim as TorchDim
from torch.export import ExportedProgram

from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, Graph, TensorSpec

logger = logging.getLogger(__name__)

_RTOL, _ATOL = 1e-3, 1e-4  # a wrong branch or shape is far off; float32 in another order is not


def trace(graph: Graph, module: nn.Module) -> ExportedProgram:
    """Trace the module once for all sizes.

    Where the tracer needs guards that a plain range cannot express, it is asked to infer relations between sizes
    instead, and what it then traced is run beside the module: inferred guards may hide a branch.

    Args:
        graph: Its inputs and their bounds.
        module: As the graph builds it.

    Raises:
        EngineError: The module does not serve the sizes that the graph promises.
        Exception: Whatever the tracer raises for a module that it cannot trace.
    """
    args = tuple(_example(spec) for spec in graph.inputs)
    dims = _free_dims(graph)
    ranges = {dim.name: TorchDim(dim.name, min=dim.low, max=dim.high) for dim in dims}
    try:
        return torch.export.export(module, args, dynamic_shapes=_shapes(graph, ranges), strict=False)
    except UserError as error:
        logger.debug("Tracing %s again with inferred relations: %s", graph.name, error)
        hints = {dim.name: TorchDim.DYNAMIC(min=dim.low, max=dim.high) for dim in dims}
        traced = torch.export.export(module, args, dynamic_shapes=_shapes(graph, hints), strict=False)
        _check_ranges(graph, traced, error)
        _check_results(graph, module, traced)
        return traced


def _example(spec: TensorSpec) -> Tensor:
    # Sizes 0 and 1 would be taken for constants.
    sizes = [size if isinstance(size, int) else min(max(size.typical, size.low, 2), size.high) for size in spec.shape]
    return torch.zeros(sizes, dtype=getattr(torch, spec.dtype))


def _free_dims(graph: Graph) -> list[Dim]:
    dims: dict[str, Dim] = {}
    for size in (size for spec in graph.inputs for size in spec.shape):
        if isinstance(size, Dim) and dims.setdefault(size.name, size) != size:
            raise EngineError(f"The graph {graph.name} has two dimensions called {size.name}.", graph=graph.name)
    return [dim for dim in dims.values() if dim.low < dim.high]


def _shapes(graph: Graph, dims: dict[str, Any]) -> tuple[dict[int, Any], ...]:
    return tuple(
        {axis: dims[size.name] for axis, size in enumerate(spec.shape) if isinstance(size, Dim) and size.name in dims}
        for spec in graph.inputs
    )


def _check_ranges(graph: Graph, traced: ExportedProgram, error: Exception) -> None:
    names = set(traced.graph_signature.user_inputs)
    ranges: dict[Any, Any] = dict(traced.range_constraints)
    traced_shapes = [node.meta["val"].shape for node in traced.graph.nodes if node.name in names]
    for spec, shape in zip(graph.inputs, traced_shapes, strict=True):
        for size, symbol in zip(spec.shape, shape, strict=True):
            if isinstance(size, int) or size.low == size.high:
                continue
            bounds = ranges.get(symbol.node.expr) if isinstance(symbol, torch.SymInt) else None
            if bounds is None or bounds.lower > max(size.low, 2) or bounds.upper < size.high:
                raise EngineError(
                    f"The graph {graph.name} does not serve every {size.name} of {size.low} to {size.high}.",
                    graph=graph.name,
                    input=spec.name,
                    traced=str(bounds),
                ) from error


def _check_results(graph: Graph, module: nn.Module, traced: ExportedProgram) -> None:
    replay = traced.module(check_guards=False)
    generator = torch.Generator().manual_seed(0)
    for offset in (0, 1, 2, 3):
        args = tuple(_sample(spec, offset, generator) for spec in graph.inputs)
        try:
            with torch.inference_mode():
                torch.testing.assert_close(replay(*args), module(*args), rtol=_RTOL, atol=_ATOL, equal_nan=True)
        except (AssertionError, RuntimeError) as error:
            raise EngineError(
                f"The graph {graph.name} fails, or computes something else, for some sizes that it promises.",
                graph=graph.name,
                sizes=[list(arg.shape) for arg in args],
            ) from error


def _sample(spec: TensorSpec, offset: int, generator: torch.Generator) -> Tensor:
    sizes = [size if isinstance(size, int) else min(size.low + offset, size.high) for size in spec.shape]
    if spec.dtype == "float32":
        return torch.randn(sizes, generator=generator)
    # Small whole numbers are valid pixels and valid token ids.
    return torch.randint(0, 2, sizes, generator=generator).to(getattr(torch, spec.dtype))
