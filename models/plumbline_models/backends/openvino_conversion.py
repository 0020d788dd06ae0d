"""Turns a graph into OpenVINO's representation; needs torch."""

import tempfile
from pathlib import Path
from typing import Any

from plumbline_models.backends.export import MAX_INLINE_BYTES, export_onnx
from plumbline_models.backends.openvino_runtime import import_openvino
from plumbline_models.core.graph import Dim, Graph, TensorSpec


def convert(core: Any, graph: Graph, *, max_inline_bytes: int = MAX_INLINE_BYTES) -> Any:
    """Export a graph and read it into OpenVINO, its sizes bounded as the graph says.

    Args:
        core: The `openvino.Core` that reads it.
        max_inline_bytes: See `OnnxGraph`.

    Raises:
        EngineError: The graph does not export.
        RuntimeError: OpenVINO does not know one of its operators.
        OSError: It has to go through a file and there is no room for one.
    """
    exported = export_onnx(graph, max_inline_bytes=max_inline_bytes)
    if exported.is_inline:
        draft = core.read_model(exported.to_bytes())
    else:
        with tempfile.TemporaryDirectory(prefix="plumbline-") as folder:
            path = Path(folder) / "graph.onnx"
            exported.save(path)
            draft = core.read_model(path)  # keeps the weights mapped after the file is gone
    draft.reshape({spec.name: _bounded(spec) for spec in graph.inputs})
    return draft


def _bounded(spec: TensorSpec) -> Any:
    openvino = import_openvino()
    sizes = [openvino.Dimension(size.low, size.high) if isinstance(size, Dim) else size for size in spec.shape]
    return openvino.PartialShape(sizes)
