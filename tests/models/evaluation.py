"""ONNX graphs evaluated node by node, by the reference that ONNX comes with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from plumbline_models.core.arrays import Array


class GatherElements(OpRun):
    """The reference's own takes from at most 64 values."""

    def _run(self, data: Array, indices: Array, axis: int) -> tuple[Array]:
        return (np.take_along_axis(data, indices, axis),)


def evaluate(model: Any, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
    """Outputs in order; a model is what the evaluator takes: a proto, its bytes, or a file's name."""
    results = ReferenceEvaluator(model, new_ops=[GatherElements]).run(outputs, dict(inputs))
    assert isinstance(results, list)
    return results
