"""Turns a graph into OpenVINO's representation, with torch or from the exported form that came with its weights.

Weights that are read in two ways get a constant each.

OpenVINO 2026.4 packs a product's weights once for each address and packed layout, whether it reads them as they are
or transposed; so where one constant serves both ways, the product that comes second computes with the other's
packing (measured on a ViT-B/32 attribution graph: cosines right, attributions off by their own size). Saving a
model brings this about even where every product had its own, since constants of equal bytes are stored once.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline_models.backends.agreement import References
from plumbline_models.backends.openvino.runtime import import_openvino
from plumbline_models.backends.shipped import ShippedGraph
from plumbline_models.core.graph import Dim, Graph, TensorSpec

if TYPE_CHECKING:
    from plumbline_models.backends.export.export import OnnxGraph

logger = logging.getLogger(__name__)

_WEIGHTS = 1  # which input of a product


def separate_weights(model: Any) -> int:
    """Copy weights that are read both as they are and transposed.

    Returns:
        How many products got a copy.
    """
    openvino = import_openvino()
    ways: dict[int, bool] = {}
    num_copies = 0
    for product in (node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"):
        weights = product.input_value(_WEIGHTS).get_node()
        if weights.get_type_name() != "Constant":
            continue
        is_transposed = bool(product.get_attributes()["transpose_b"])
        if ways.setdefault(weights.data.ctypes.data, is_transposed) != is_transposed:
            copy = openvino.op.Constant(np.array(weights.data))
            product.input(_WEIGHTS).replace_source_output(copy.output(0))
            num_copies += 1
    return num_copies


@dataclass(frozen=True, slots=True)
class Draft:
    """A graph in OpenVINO's representation, not compiled yet.

    Args:
        model: Its sizes bounded as the graph says.
        references: What it must give for the fixed inputs.
    """

    model: Any
    references: References


def convert(core: Any, graph: Graph, *, scratch: Path | None) -> Draft:
    """Export a graph and read it into OpenVINO.

    Args:
        core: The `openvino.Core` that reads it.
        graph: What is converted.
        scratch: An empty folder to pass it through; the result keeps the weights mapped when the folder is gone.
            None: through memory, which takes the weights four times (ViT-B/32: 2.6 GB at most, not 1.4 GB).

    Raises:
        EngineError: The graph does not export, or has to go through memory and is too large.
        RuntimeError: OpenVINO does not know one of its operators.
    """
    # Imported here because it brings torch, which a warm start must not pay for.
    from plumbline_models.backends.export.export import export_onnx  # noqa: PLC0415

    exported = export_onnx(graph)
    model = _read(core, exported, scratch)
    _bound(model, graph)
    return Draft(model, exported.references)


def convert_shipped(core: Any, graph: Graph, shipped: ShippedGraph) -> Draft:
    """Read the exported form of a graph and give it its weights.

    Args:
        core: The `openvino.Core` that reads it.
        graph: Whose.
        shipped: That form.

    Raises:
        RuntimeError: OpenVINO does not read it.
    """
    openvino = import_openvino()
    model = core.read_model(shipped.onnx_file)
    for parameter in model.get_parameters():
        weight = shipped.weights.get(parameter.get_friendly_name())
        if weight is None:
            continue
        constant = openvino.op.Constant(np.ascontiguousarray(weight))
        for reader in parameter.output(0).get_target_inputs():
            reader.replace_source_output(constant.output(0))
        model.remove_parameter(parameter)
    _bound(model, graph)
    return Draft(model, shipped.references)


def _read(core: Any, exported: "OnnxGraph", scratch: Path | None) -> Any:
    if scratch is not None:
        path = scratch / "graph.onnx"
        try:
            exported.save(path)
        except OSError as error:
            logger.warning("The exported graph cannot be written, it goes through memory: %s.", error)
        else:
            return core.read_model(path)
    return core.read_model(exported.to_bytes())


def _bound(model: Any, graph: Graph) -> None:
    model.reshape({spec.name: _bounded(spec) for spec in graph.inputs})


def _bounded(spec: TensorSpec) -> Any:
    openvino = import_openvino()
    sizes = [openvino.Dimension(size.low, size.high) if isinstance(size, Dim) else size for size in spec.shape]
    return openvino.PartialShape(sizes)
