"""Turns a graph into OpenVINO's representation; needs torch."""

import logging
from pathlib import Path
from typing import Any

from plumbline_models.backends.export import OnnxGraph, export_onnx
from plumbline_models.backends.openvino_runtime import import_openvino
from plumbline_models.core.graph import Dim, Graph, TensorSpec

logger = logging.getLogger(__name__)


def convert(core: Any, graph: Graph, scratch: Path | None) -> Any:
    """Export a graph and read it into OpenVINO, its sizes bounded as the graph says.

    Args:
        core: The `openvino.Core` that reads it.
        scratch: An empty folder to pass it through; the result keeps the weights mapped when the folder is gone.
            None: through memory, which takes the weights four times (ViT-B/32: 2.6 GB at most, not 1.4 GB).

    Raises:
        EngineError: The graph does not export, or has to go through memory and is too large.
        RuntimeError: OpenVINO does not know one of its operators.
    """
    draft = _read(core, export_onnx(graph), scratch)
    draft.reshape({spec.name: _bounded(spec) for spec in graph.inputs})
    return draft


def _read(core: Any, exported: OnnxGraph, scratch: Path | None) -> Any:
    if scratch is not None:
        path = scratch / "graph.onnx"
        try:
            exported.save(path)
        except OSError as error:
            logger.warning("The exported graph cannot be written, it goes through memory: %s.", error)
        else:
            return core.read_model(path)
    return core.read_model(exported.to_bytes())


def _bounded(spec: TensorSpec) -> Any:
    openvino = import_openvino()
    sizes = [openvino.Dimension(size.low, size.high) if isinstance(size, Dim) else size for size in spec.shape]
    return openvino.PartialShape(sizes)
