"""Turns a graph's torch module into ONNX, the form that the compilers read."""

import logging
import re
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from plumbline_models.backends.agreement import References, Sizes, draw_inputs, fixed_sizes, num_when_built
from plumbline_models.backends.export.mixed_precision import lower_precision
from plumbline_models.backends.export.quiet import quietly
from plumbline_models.backends.export.stripping import Weights, save_weights, strip_weights
from plumbline_models.backends.export.tracing import trace
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

logger = logging.getLogger(__name__)
OPSET = 20  # the first with GELU as one op; read by every runtime that we compile with
MAX_WEIGHT_BYTES = 2**31 - 2**24  # a protobuf message ends at 2 GiB; the rest is for what is not weights
_MAX_REASON = 2000
_NODE = re.compile(r"translating node %(\w+).*?target=([\w.:]+)", re.DOTALL)
_EXPORTING = threading.Lock()  # tracing patches torch for the whole process


class OnnxGraph:
    """A graph as ONNX, weights included, and what its torch module gives for the fixed inputs.

    Args:
        program: torch's `ONNXProgram`.
        references: See `agreement`.
    """

    def __init__(self, program: Any, references: References) -> None:
        self._program = program
        self.references = references

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

    def strip(self) -> Weights:
        """Make inputs of the weights; see `strip_weights`."""
        return strip_weights(self._program.model)

    def save_stripped(self, path: Path, weights_file: Path) -> None:
        """Write the graph to `path` with its weights as inputs, and the weights beside it; it has none from here on.

        Args:
            path: The graph's file.
            weights_file: Of safetensors, by the names of the graph's inputs.

        Raises:
            OSError: The disk refuses.
        """
        save_weights(self.strip(), weights_file)
        self.save_alone(path)

    def save_alone(self, path: Path) -> None:
        """Write the graph, stripped before, to a file.

        Raises:
            OSError: The disk refuses.
        """
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


def export_onnx(graph: Graph, *, sizes: Sizes | None = None) -> OnnxGraph:
    """Build the graph's module and export it, for all sizes within the bounds of its `Dim`s.

    Args:
        graph: What is exported.
        sizes: Of the fixed inputs, where they are not the graph's typical ones.

    Raises:
        EngineError: The module cannot be traced within those bounds, or holds an operator without an ONNX form;
            fact `node` names it where it is known.
    """
    logger.info("Exporting the graph %s.", graph.name, extra={"graph": graph.name})
    module = graph.build().float()
    with _EXPORTING, quietly("torch", "onnxscript", "onnx_ir"):
        try:
            program = _to_onnx(graph, trace(graph, module))
        except EngineError:
            raise
        except Exception as error:  # the exporter raises dozens of classes, builtin ones among them
            raise _explain(graph, error) from error
    return OnnxGraph(program, _refer(graph, module, sizes))


def _refer(graph: Graph, module: nn.Module, sizes: Sizes | None) -> References:
    """What the module gives for the fixed inputs, at hand as it is."""
    num_bytes = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    chosen = fixed_sizes(graph, num_inputs=num_when_built(num_bytes), sizes=sizes)
    inputs = draw_inputs(graph, chosen)
    with torch.inference_mode():
        results = module(*(torch.from_numpy(inputs[spec.name]) for spec in graph.inputs))
    tensors = (results,) if isinstance(results, Tensor) else results
    arrays = {name: tensor.float().numpy() for name, tensor in zip(graph.outputs, tensors, strict=True)}
    return References.of(arrays, chosen)


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
