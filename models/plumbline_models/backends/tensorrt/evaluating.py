"""Evaluates an ONNX graph node by node on the CPU, as strongly typed engines compute it.

Every node rounds to its own type, and products add up in float32. It is ONNX's reference evaluator, but for nodes that
it computes in fp16 throughout, which is slow and not what kernels do, or one number at a time.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from plumbline_models.core.arrays import Array


class _Product(OpRun):
    """Adds up in float32, and notes the largest absolute value of each factor."""

    ranges: ClassVar[dict[str, float]]

    def _multiply(self, left: Array, right: Array) -> Array:
        factors = left.astype(np.float32), right.astype(np.float32)
        for name, factor in zip(self.onnx_node.input, factors, strict=False):
            self.ranges[name] = max(self.ranges.get(name, 0.0), float(factor.max()), -float(factor.min()))
        product: Array = np.matmul(*factors)
        return product


class _MatMul(_Product):
    def _run(self, left: Array, right: Array) -> tuple[Array]:
        return (self._multiply(left, right).astype(left.dtype),)


class _Gemm(_Product):
    def _run(self, left: Array, right: Array, bias: Array | None = None, **settings: Any) -> tuple[Array]:
        factors = (each.T if settings[f"trans{side}"] else each for side, each in (("A", left), ("B", right)))
        total = settings["alpha"] * self._multiply(*factors) + (0 if bias is None else settings["beta"] * bias)
        return (total.astype(left.dtype),)


class Attention(OpRun):
    """Adds up in float32, softmax included, as fused kernels do."""

    def _run(self, query: Array, key: Array, value: Array, mask: Array | None = None, **settings: Any) -> tuple[Array]:
        root = np.sqrt(np.float32(settings["scale"]))
        scores = np.matmul(query.astype(np.float32) * root, np.swapaxes(key.astype(np.float32) * root, -1, -2))
        if mask is not None:
            scores += mask
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (np.matmul(scores, value.astype(np.float32)).astype(query.dtype),)


class Gelu(OpRun):
    """All numbers at a time."""

    def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
        exact = x.astype(np.float32)
        if approximate == "tanh":
            bent = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (exact + np.float32(0.044715) * exact**3))
        else:
            bent = importlib.import_module("scipy.special").erf(exact / np.sqrt(np.float32(2)))
        return ((exact * (1 + bent) / 2).astype(x.dtype),)


class Sigmoid(OpRun):
    """All numbers at a time, in float32 inside."""

    def _run(self, x: Array) -> tuple[Array]:
        expit = importlib.import_module("scipy.special").expit
        return (expit(x.astype(np.float32)).astype(x.dtype),)


class Evaluation:
    """A graph to evaluate.

    Args:
        onnx_file: Weights beside it.
    """

    def __init__(self, onnx_file: Path) -> None:
        self.ranges: dict[str, float] = {}
        """Largest absolute value of each factor of a product in all runs so far, by name."""
        noting = {"ranges": self.ranges}
        products = [type("MatMul", (_MatMul,), noting), type("Gemm", (_Gemm,), noting)]
        self._evaluator = ReferenceEvaluator(onnx.load(onnx_file), new_ops=[*products, Attention, Gelu, Sigmoid])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; all values inside are in memory meanwhile.

        Args:
            inputs: By name.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is no number is for others to see
            results: Any = self._evaluator.run(None, dict(inputs))
        return dict(zip(map(str, self._evaluator.output_names), results, strict=True))
