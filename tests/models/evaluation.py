"""ONNX graphs evaluated node by node, by the reference that ONNX comes with."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx.reference import ReferenceEvaluator

from plumbline_models.core.arrays import Array


def evaluate(model: Any, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
    """Outputs in order; a model is what the evaluator takes: a proto, its bytes, or a file's name."""
    results = ReferenceEvaluator(model).run(outputs, dict(inputs))
    assert isinstance(results, list)
    return results
