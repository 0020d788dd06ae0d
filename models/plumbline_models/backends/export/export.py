"""Turns a graph's torch module into ONNX, the form that the compilers read."""

import re
import threading
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from plumbline_models.backends.export.mixed_precision import lower_precision
from plumbline_models.backends.export.quiet import quietly
from plumbline_models.backends.export.stripping import save_weights, strip_weights
from plumbline_models.backends.export.tracing import trace
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

OPSET = 20  # the first with GELU as one op; read by every runtime that we compile with
MAX_WEIGHT_BYTES = 2**31 - 2**24  # a protobuf message ends at 2 GiB; the rest is for what is not weights
_MAX_REASON = 2000
_NODE = re.compile(r"translating node %(\w+).*?target=([\w.:]+)", re.DOTALL)
_EXPORTING = threading.Lock()  # tracing patches torch for the whole process


class OnnxGraph:
    """A graph as ONNX, weights included.

    Args:
        program: torch's `ONNXProgram`.
    """

    def __init__(self, program: Any) -> None:
        self._program = program

    @property
    def num_weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(int(value.const_value.nbytes) for value in self._program.model.graph.initializers.values())

    def lower(self, precision: Precision) -> None:
        """Have products computed in that precision from here on, fp32 being what they are in; see `mixed_precision`.

        Raises:
            EngineError: A weight leaves fp16's range.
        """
        if precision != "fp32":
            lower_precision(self._program.model, precision)

    def save(self, path: Path) -> None:
        """Write `path`, and the weights to `path` + `.data` beside it; any size, and no copy of them in memory.

        Raises:
            OSError: The disk refuses.
        """
        self._program.save(str(path), external_data=True)

    def save_stripped(self, path: Path, weights_file: Path) -> None:
        """Write the graph to `path` with its weights as inputs, and the weights beside it; it has none from here on.

        Args:
            path: The graph's file.
            weights_file: Of safetensors, by the names of the graph's inputs.

        Raises:
            OSError: The disk refuses.
        """
        save_weights(strip_weights(self._program.model), weights_file)
        path.write_bytes(self._program.model_proto.SerializeToString(deterministic=True))

    def to_bytes(self, *, max_weight_bytes: int = MAX_WEIGHT_BYTES) -> bytes:
        """One ONNX message with the weights inside; holds them in memory three times over while it is made.

        Raises:
            EngineError: It is too large for one message.
        """
        if self.num_weight_bytes > max_weight_bytes:
            raise EngineError(
                "The graph's weights do not fit into one ONNX message, and there is no folder to write them to.",
                num_bytes=self.num_weight_bytes,
                limit=max_weight_bytes,
            )
        content: bytes = self._program.model_proto.SerializeToString()
        return content


def export_onnx(graph: Graph) -> OnnxGraph:
    """Build the graph's module and export it, for all sizes within the bounds of its `Dim`s.

    Raises:
        EngineError: The module cannot be traced within those bounds, or holds an operator without an ONNX form;
            fact `node` names it where it is known.
    """
    module = graph.build().float()
    with _EXPORTING, quietly("torch", "onnxscript", "onnx_ir"):
        try:
            return OnnxGraph(_to_onnx(graph, trace(graph, module)))
        except EngineError:
            raise
        except Exception as error:  # the exporter raises dozens of classes, builtin ones among them
            raise _explain(graph, error) from error


def _to_onnx(graph: Graph, traced: ExportedProgram) -> Any:
    num_outputs = len(traced.graph_signature.user_outputs)
    if num_outputs != len(graph.outputs):
        raise EngineError(
            f"The graph {graph.name} gives {num_outputs} outputs, not {', '.join(graph.outputs)}.", graph=graph.name
        )
    return torch.onnx.export(
        traced,
        dynamo=True,
        input_names=[spec.name for spec in graph.inputs],
        output_names=list(graph.outputs),
        opset_version=OPSET,
        optimize=True,
        verbose=False,
    )


def _explain(graph: Graph, error: Exception) -> EngineError:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    found = _NODE.search("\n".join(map(str, chain)))
    reason = str(chain[-1])
    where = f"{found[2]} (node {found[1]})" if found else reason.partition("\n")[0].rstrip(".")
    return EngineError(
        f"The graph {graph.name} cannot be exported to ONNX: {where}.",
        graph=graph.name,
        node=found[1] if found else None,
        operator=found[2] if found else None,
        reason=reason[:_MAX_REASON],
    )
