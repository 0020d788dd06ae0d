"""Gives products that read the same weights in two ways a constant each.

OpenVINO 2026.4 packs a product's weights once for each address and packed layout, whether it reads them as they are or
transposed; so where one constant serves both ways, the product that comes second computes with the other's packing
(measured on a ViT-B/32 attribution graph: cosines right, attributions off by their own size). Saving a model brings
this about even where every product had its own, since constants of equal bytes are stored once.
"""

from typing import Any

import numpy as np

from plumbline_models.backends.openvino_runtime import import_openvino

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
