"""Writes products with weights in an ONNX graph in fp8, with explicit `QuantizeLinear` and `DequantizeLinear`.

    activation -> Q -> DQ -> MatMul <- DQ <- Q <- weight

TensorRT computes such a product with factors in eight bits (E4M3) and sums in float32, and keeps the weight in eight
bits in the engine; no plugin is used. Scales are one number for each tensor, as NVIDIA's own quantiser has them for
fp8, for weights as for activations. Products of two activations (queries by keys, attention by values) stay in 16 bits,
as all else that is.

https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

LARGEST: Final = 448.0
"""That E4M3 holds."""
_PRODUCTS: Final = frozenset({"MatMul", "Gemm"})
_NUM_FACTORS: Final = 2
_MATRIX: Final = 2  # axes
_FP8: Final = ir.DataType.FLOAT8E4M3FN
_LEAST_SCALE: Final = float(np.finfo(np.float16).tiny)  # smaller ones have fewer bits


def list_products(onnx_file: Path) -> list[str]:
    """Products of an activation by a matrix of weights in fp16, by the names of what they give, in order.

    Args:
        onnx_file: Of the graph.
    """
    return list(_linear_products(ir.load(onnx_file).graph))


def quantise(onnx_file: Path, ranges: Mapping[str, float], products: Collection[str]) -> None:
    """Rewrite a graph whose products are in fp16; weights beside it stay where they are.

    Args:
        onnx_file: Replaced.
        ranges: The largest absolute value of each factor, by its name.
        products: Of those that `list_products` gave.

    Raises:
        OSError: The disk refuses.
    """
    model = ir.load(onnx_file)
    rewriting = _Rewriting(model.graph, ranges)
    for name, product in _linear_products(model.graph).items():
        if name in products:
            rewriting.visit(product)
    ir.save(model, onnx_file)


def _linear_products(graph: ir.Graph) -> dict[str, ir.Node]:
    dependent: set[ir.Value | None] = set(graph.inputs)
    products: dict[str, ir.Node] = {}
    for node in graph:
        if not dependent.isdisjoint(node.inputs):
            dependent.update(node.outputs)
        result = node.outputs[0]
        if node.op_type in _PRODUCTS and result.dtype == ir.DataType.FLOAT16 and result.name is not None:
            weight = node.inputs[1]
            if weight is not None and weight not in dependent and len(weight.shape or ()) == _MATRIX:
                products[result.name] = node
    return products


class _Rewriting:
    """Puts Q and DQ between products and what they read, once for each tensor.

    Args:
        graph: Rewritten.
        ranges: As for `quantise`.
    """

    def __init__(self, graph: ir.Graph, ranges: Mapping[str, float]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._rounded: dict[str, ir.Value] = {}
        self._zero = self._constant("fp8_zero", np.zeros((), _FP8.numpy()))

    def visit(self, product: ir.Node) -> None:
        """Have both factors of a product in fp8."""
        for index, factor in enumerate(product.inputs[:_NUM_FACTORS]):
            if factor is not None and factor.name is not None:
                product.replace_input_with(index, self._round(factor, factor.name, before=product))

    def _round(self, value: ir.Value, name: str, *, before: ir.Node) -> ir.Value:
        if name not in self._rounded:
            scale = self._constant(f"{name}_fp8_scale", np.float16(max(self._ranges[name] / LARGEST, _LEAST_SCALE)))
            low = ir.Value(name=f"{name}_fp8", type=ir.TensorType(_FP8), shape=value.shape)
            high = ir.Value(name=f"{name}_from_fp8", type=value.type, shape=value.shape)
            for kind, source, result in (("Quantize", value, low), ("Dequantize", low, high)):
                inputs = [source, scale, self._zero]
                node = ir.node(f"{kind}Linear", inputs, outputs=[result], name=f"{kind.lower()}_{name}")
                self._graph.insert_before(before, node)
            self._rounded[name] = high
        return self._rounded[name]

    def _constant(self, name: str, number: np.ndarray | np.generic) -> ir.Value:
        tensor = ir.tensor(np.asarray(number), name=name)
        value = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
        )
        self._graph.register_initializer(value)
        return value
