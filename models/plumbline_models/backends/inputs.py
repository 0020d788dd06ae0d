"""A graph's inputs: checks a batch against them before any runtime sees it, and says along which its rows lie."""

from collections.abc import Mapping, Sequence

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, Graph, TensorSpec


def arrange_inputs(
    graph: str, specs: Sequence[TensorSpec], inputs: Mapping[str, Array]
) -> tuple[list[Array], dict[str, int]]:
    """Put a batch in the order of the graph's inputs.

    Args:
        graph: Its name, for errors.

    Returns:
        The arrays, C-contiguous (the caller's own where they already were), and the size of each `Dim` by name.

    Raises:
        EngineError: A name, dtype or shape is not what the graph takes.
    """
    names = [spec.name for spec in specs]
    if len(inputs) != len(specs) or any(name not in inputs for name in names):
        raise EngineError(
            f"The graph {graph} takes {', '.join(names)}, but was given {', '.join(inputs) or 'nothing'}.",
            graph=graph,
        )
    sizes: dict[str, int] = {}
    return [_check(graph, spec, inputs[spec.name], sizes) for spec in specs], sizes


def _check(graph: str, spec: TensorSpec, array: Array, sizes: dict[str, int]) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(spec.dtype):
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise EngineError(f"Input {spec.name} of {graph} is {kind}, not {spec.dtype}.", graph=graph, input=spec.name)
    fits = array.ndim == len(spec.shape) and all(
        _fits(dim, size, sizes) for dim, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise EngineError(
            f"Input {spec.name} of {graph} has shape {list(array.shape)}, not {show_shape(spec.shape)}.",
            graph=graph,
            input=spec.name,
            sizes=dict(sizes),
        )
    return np.ascontiguousarray(array)


def _fits(dim: int | Dim, size: int, sizes: dict[str, int]) -> bool:
    if isinstance(dim, int):
        return size == dim
    return dim.low <= size <= dim.high and sizes.setdefault(dim.name, size) == size


def rows_dimension(graph: Graph) -> Dim:
    """The dimension that rows of a batch lie along.

    Raises:
        EngineError: The graph's outputs do not begin with a dimension of its inputs.
    """
    first = graph.output_shapes[0][0] if graph.output_shapes else graph.inputs[0].shape[0]
    if not isinstance(first, Dim) or all(spec.shape[0] != first for spec in graph.inputs):
        raise EngineError(f"The rows of the graph {graph.name} do not lie along one of its inputs.", graph=graph.name)
    return first


def is_counted_elsewhere(graph: Graph, dim: Dim) -> bool:
    """Whether a dimension is also another axis than the first: its rows can then be neither cut nor filled up.

    Args:
        graph: Whose.
        dim: As `rows_dimension` gives it.
    """
    return any(dim in spec.shape[1:] for spec in graph.inputs)


def show_shape(shape: Sequence[int | Dim]) -> str:
    """A shape for people, for example `[n=1..64, 224, 224, 3]`."""
    parts = (f"{dim.name}={dim.low}..{dim.high}" if isinstance(dim, Dim) else str(dim) for dim in shape)
    return f"[{', '.join(parts)}]"
