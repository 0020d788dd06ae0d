"""Takes the weights out of an ONNX graph, so that what is left is the same for all weights of one architecture.

Each becomes an input of the graph, given once when an engine is loaded. A compiler that never saw a weight cannot have
built one in: it may fold, fuse and reorder as it likes, and no other weights can be wrong for what it made.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Final, TypeAlias

import onnx_ir as ir
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

Weights: TypeAlias = Mapping[str, ir.TensorProtocol]

_FLOATS: Final = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
}


def strip_weights(model: ir.Model) -> Weights:
    """Make inputs of all floating-point tensors of more than one number, in place.

    Single numbers and whole ones stay: scales, epsilons, shapes. What nothing reads goes, and so do notes of where
    nodes came from, which hold paths of this machine.

    Returns:
        What was taken out, by the name of its input.
    """
    taken: dict[str, ir.TensorProtocol] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if value.is_graph_output():
            continue
        if not value.uses():
            del model.graph.initializers[name]
        elif tensor is not None and tensor.dtype in _FLOATS and prod(tensor.shape.numpy()) > 1:
            taken[name] = tensor
            del model.graph.initializers[name]
            _make_input(model.graph, value, tensor)
    _drop_notes(model)
    return taken


def _make_input(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    value.const_value = None
    value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    graph.inputs.append(value)


def _drop_notes(model: ir.Model) -> None:
    nodes = list(model.graph)
    values = [*model.graph.inputs, *model.graph.initializers.values(), *(out for node in nodes for out in node.outputs)]
    noted: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [model, model.graph, *nodes, *values]
    for each in noted:
        each.doc_string = None
        each.metadata_props.clear()


def save_weights(weights: Weights, path: Path) -> None:
    """Write weights as safetensors; they are in memory once more meanwhile.

    Args:
        weights: By name.
        path: The file, safetensors.

    Raises:
        OSError: The disk refuses.
    """
    try:
        save_file({name: _to_torch(tensor) for name, tensor in weights.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _to_torch(tensor: ir.TensorProtocol) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(tensor.tobytes()), dtype=_FLOATS[tensor.dtype])
    return flat.reshape(tuple(tensor.shape.numpy()))
