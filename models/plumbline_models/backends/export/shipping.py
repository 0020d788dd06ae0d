"""Writes the exported form of a graph that ships with its weights; see `backends.shipped`."""

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from plumbline_models.backends.export.export import export_onnx
from plumbline_models.backends.export.stripping import Weights, save_weights
from plumbline_models.backends.shipped import GRAPH, REST, Binding, shipped_key, write_bindings
from plumbline_models.backends.store.manifest import seal
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

MAX_REST_BYTES: Final = 2**16
"""What may ship besides the graph; more means that weights are missing from what they are bound to."""


def ship(graph: Graph, folder: Path) -> None:
    """Export a graph into an empty folder, its weights bound to the tensors that they are parts of.

    Args:
        graph: Of weights that ship.
        folder: Where it goes.

    Raises:
        EngineError: It does not export, or holds weights that are no part of a tensor.
    """
    if graph.shipped is None:
        raise EngineError(f"The graph {graph.name} ships with no weights.", graph=graph.name)
    exported = export_onnx(graph)
    bindings, rest = _bind(exported.strip(), graph.shipped.read_weights())
    num_bytes = sum(tensor.nbytes for tensor in rest.values())
    if num_bytes > MAX_REST_BYTES:
        raise EngineError(
            f"The graph {graph.name} holds weights that are no part of its checkpoint's tensors.",
            graph=graph.name,
            weights=sorted(rest, key=lambda name: -rest[name].nbytes),
        )
    exported.save_alone(folder / GRAPH)
    exported.references.write(folder)
    write_bindings(bindings, folder)
    save_weights(rest, folder / REST)
    seal(folder, shipped_key(graph))


def _bind(stripped: Weights, tensors: Mapping[str, Array]) -> tuple[dict[str, Binding], dict[str, ir.TensorProtocol]]:
    known = {name: np.ascontiguousarray(array).tobytes() for name, array in tensors.items()}
    found = {name: _find(tensor.numpy(), known) for name, tensor in stripped.items()}
    rest = {name: tensor for name, tensor in stripped.items() if found[name] is None}
    return {name: binding for name, binding in found.items() if binding is not None}, rest


def _find(array: Array, known: Mapping[str, bytes]) -> Binding | None:
    """Where an array lies in a tensor, in any order of its axes; the smallest tensor that holds it."""
    by_size = sorted(known.items(), key=lambda each: len(each[1]))
    for order in permutations(range(array.ndim)):
        wanted = np.ascontiguousarray(array.transpose(order)).tobytes()
        for name, content in by_size:
            at = _index(content, wanted, array.itemsize)
            if at is not None:
                shape = [array.shape[axis] for axis in order]
                return Binding(name, at // array.itemsize, shape, [order.index(axis) for axis in range(array.ndim)])
    return None


def _index(content: bytes, wanted: bytes, step: int) -> int | None:
    """Where `wanted` begins in `content`, at a multiple of `step`."""
    at = content.find(wanted)
    while at >= 0 and at % step:
        at = content.find(wanted, at + 1)
    return at if at >= 0 else None
