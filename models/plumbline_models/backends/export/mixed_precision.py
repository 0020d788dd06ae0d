"""Rewrites an ONNX graph so that its products run in 16 bits and all that decides accuracy stays in float32.

Strongly typed compilers compute every node in the type of its inputs, so the choice is made here, node by node:

    products     MatMul, Gemm, Conv, with weights or with what is 16-bit already: 16 bits
    movers       Reshape, Transpose, Concat …: as what they move
    elementwise  Add, Mul, activations, pools: 16 bits where all that they read is, unless a sum, a norm or a softmax
                 reads them; so bias and activation stay with their product, scores go to softmax in float32, and
                 squares are summed in float32
    the rest     norms, softmax, sums, exponentials, what picks rows: float32

The residual stream of a transformer starts and stays in float32, and so do products that are graph outputs (margins,
cosines) and products that a maximum reads (a vocabulary's logits, of which only small differences count).
"""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from plumbline_models.core.errors import EngineError

LowPrecision: TypeAlias = Literal["fp16", "bf16"]

PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Conv"})
MOVERS: Final = frozenset(
    {
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile"),
        *("Transpose", "Unsqueeze"),
    }
)
ELEMENTWISE: Final = frozenset({"Add", "Mul", "Sub", "Relu", "Gelu", "Sigmoid", "Tanh", "AveragePool", "MaxPool"})
_LOGITS_READERS: Final = frozenset({"ReduceMax"})
_TYPES: Final = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


def lower_precision(model: ir.Model, precision: LowPrecision) -> int:
    """Rewrite the graph in place; its inputs and outputs keep their types.

    Args:
        model: In float32; rewritten.
        precision: That products are to run in.

    Returns:
        How many products run in 16 bits.

    Raises:
        EngineError: A weight leaves fp16's range.
    """
    rewriting = _Rewriting(model.graph, _TYPES[precision])
    for node in list(model.graph):
        rewriting.visit(node)
    rewriting.drop_unread_weights()
    return rewriting.num_products


class _Rewriting:
    """One pass over a graph, in the order in which it runs."""

    def __init__(self, graph: ir.Graph, low: ir.DataType) -> None:
        self._graph = graph
        self._low = low
        self._casts: dict[tuple[str, ir.DataType], ir.Value] = {}
        self.num_products = 0

    def visit(self, node: ir.Node) -> None:
        """Decide on one node and put casts where its inputs are of the other type."""
        floats = [value for value in node.inputs if value is not None and _is_float(value)]
        wanted = self._low if floats and self._runs_low(node, floats) else ir.DataType.FLOAT
        if wanted == self._low:
            self.num_products += node.op_type in PRODUCTS
            for output in node.outputs:
                output.dtype = wanted
        for index, value in enumerate(node.inputs):
            if value is not None and _is_float(value) and value.dtype != wanted:
                node.replace_input_with(index, self._as(value, wanted, before=node))

    def _runs_low(self, node: ir.Node, floats: list[ir.Value]) -> bool:
        if any(output.is_graph_output() for output in node.outputs):
            return False
        readers = {reader.op_type for output in node.outputs for reader in output.consumers()}
        if node.op_type in PRODUCTS:
            has_low_factor = any(value.dtype == self._low or _is_weight(value) for value in floats)
            return has_low_factor and not readers & _LOGITS_READERS
        if node.op_type not in MOVERS | ELEMENTWISE:
            return False
        read = [value for value in floats if not _is_weight(value)]
        if not read or any(value.dtype != self._low for value in read):
            return False
        return node.op_type in MOVERS or readers <= PRODUCTS | MOVERS | ELEMENTWISE

    def _as(self, value: ir.Value, dtype: ir.DataType, *, before: ir.Node) -> ir.Value:
        """The value in another type; made once for all that read it."""
        key = (value.name or "", dtype)
        if key not in self._casts:
            self._casts[key] = (
                self._lower_weight(value) if value.is_initializer() else self._cast(value, dtype, before=before)
            )
        return self._casts[key]

    def _cast(self, value: ir.Value, dtype: ir.DataType, *, before: ir.Node) -> ir.Value:
        output = ir.Value(name=f"{value.name}_{dtype.name.lower()}", type=ir.TensorType(dtype), shape=value.shape)
        node = ir.node("Cast", [value], {"to": int(dtype)}, outputs=[output], name=f"cast_{output.name}")
        self._graph.insert_before(before, node)
        return output

    def _lower_weight(self, value: ir.Value) -> ir.Value:
        """A 16-bit copy of a weight, made when the graph is written, so that not all are in memory at once."""
        weight, low = value.const_value, self._low
        if weight is None or _exceeds(weight.numpy(), low):
            raise EngineError(
                "A weight lies outside of fp16's range; set precision to bf16 or fp32.", weight=value.name
            )

        def rounded() -> ir.Tensor[np.ndarray]:
            return ir.Tensor(weight.numpy().astype(low.numpy()), dtype=low)

        name, shape = f"{value.name}_{low.name.lower()}", ir.Shape(weight.numpy().shape)
        tensor = ir.LazyTensor(rounded, dtype=low, shape=shape, name=name)
        lowered = ir.Value(name=name, type=ir.TensorType(low), shape=shape, const_value=tensor)
        self._graph.register_initializer(lowered)
        return lowered

    def drop_unread_weights(self) -> None:
        """Leave out the float32 weights of which only 16-bit copies are read."""
        for name in list(_unread(self._graph)):
            del self._graph.initializers[name]


def _exceeds(weight: np.ndarray, low: ir.DataType) -> bool:
    """Whether rounding would make infinities; bf16 has float32's range."""
    return low == ir.DataType.FLOAT16 and bool((np.abs(weight) > np.finfo(np.float16).max).any())


def _unread(graph: ir.Graph) -> Iterator[str]:
    for name, value in graph.initializers.items():
        if not value.uses() and not value.is_graph_output():
            yield name


def _is_float(value: ir.Value) -> bool:
    return value.dtype in {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def _is_weight(value: ir.Value) -> bool:
    """Whether a value is known when the graph is built: a weight, or a slice or a transpose of one."""
    producer = value.producer()
    if producer is None:
        return value.is_initializer()
    return producer.op_type in MOVERS | {"Constant"} and all(_is_weight(part) for part in producer.inputs if part)
