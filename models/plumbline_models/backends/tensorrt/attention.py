"""Writes attention in an ONNX graph as one node each, which TensorRT's parser takes for its fused attention.

The exporter spells attention out: query and key each times the fourth root of the head's width, so that products stay
small, a key transposed by way of three dimensions, and, since `mixed_precision` has softmax in float32, casts around
it. TensorRT recognises few such spellings. The node `Attention` of ONNX 23 says what is meant: the parser makes an
`IAttention` of it, scales query and key each by the root of `scale`, and fused kernels add up in float32.

Where a mask is added the node takes it in the products' type. In fp16 that is exact enough for masks of zeros and very
negative numbers, which is what graphs in fp16 have; in bf16, T5's for one, biases of any size are added, and such
attention stays as it is. So does all attention in float32. No plugin is used.

https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir

OPSET: Final = 23
"""The first with attention as one node."""
_RANK: Final = 4
_SWAPPED: Final = [0, 2, 1]
_FLOAT16: Final = ir.DataType.FLOAT16
_LOW: Final = frozenset({_FLOAT16, ir.DataType.BFLOAT16})


@dataclass(frozen=True, slots=True)
class _Attention:
    """One softmax and what belongs to it.

    Args:
        query: `[N, heads, R, width]`, and key and value alike.
        scale: Of the product of query and key.
        mask: Added to the scores.
        result: What takes its place.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    scale: float
    mask: ir.Value | None
    result: ir.Node


def fuse_attention(onnx_file: Path) -> int:
    """Rewrite a graph whose products are in 16 bits; weights beside it stay where they are.

    Args:
        onnx_file: Replaced.

    Returns:
        How many attentions are one node now.

    Raises:
        OSError: The disk refuses.
    """
    model = ir.load(onnx_file)
    found = [each for node in model.graph if node.op_type == "Softmax" if (each := _recognise(node)) is not None]
    for attention in found:
        _replace(model.graph, attention)
    if found:
        _drop_unread(model.graph)
        model.opset_imports[""] = OPSET
        ir.save(model, onnx_file)
    return len(found)


def _recognise(softmax: ir.Node) -> _Attention | None:
    scores, mask = _split_mask(_before_casts(softmax.inputs[0]))
    product = None if scores is None else scores.producer()
    mixing = _only_reader(softmax.outputs[0])
    if product is None or mixing is None or mixing.op_type != "MatMul":
        return None
    value = mixing.inputs[1]
    (query, query_scale), (key, key_scale) = (_unscaled(each) for each in product.inputs)
    if query is None or key is None or value is None or {query.dtype, value.dtype} - _LOW:
        return None
    key = _untransposed(key)
    if key is None or any(each.shape is None or len(each.shape) != _RANK for each in (query, key, value)):
        return None
    if mask is not None and query.dtype != _FLOAT16:
        return None
    return _Attention(query, key, value, query_scale * key_scale, mask, mixing)


def _before_casts(value: ir.Value | None) -> ir.Value | None:
    """What a value is a cast of, unless others read it too."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Cast":
        value = node.inputs[0]
    return value


def _split_mask(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """The product of queries and keys, and what is added to it; no product: this is no attention that we know."""
    node = None if value is None else value.producer()
    if node is None or len(node.outputs[0].uses()) != 1:
        return None, None
    if node.op_type == "MatMul":
        return value, None
    if node.op_type == "Add":
        for scores, mask in (node.inputs, reversed(node.inputs)):
            product = _before_casts(scores)
            if product is not None and _is_product(product):
                return product, mask
    return None, None


def _is_product(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "MatMul" and len(value.uses()) == 1


def _only_reader(value: ir.Value) -> ir.Node | None:
    """What reads a value, by way of casts, where nothing else does."""
    readers = list(value.consumers())
    if len(readers) != 1:
        return None
    return _only_reader(readers[0].outputs[0]) if readers[0].op_type == "Cast" else readers[0]


def _unscaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """What is multiplied by a single number, and that number; 1 where it is not."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Mul":
        for factor, other in (node.inputs, reversed(node.inputs)):
            number = None if factor is None else ir.convenience.get_const_tensor(factor)
            if number is not None and number.size == 1:
                return other, float(number.numpy().item())
    return value, 1.0


def _untransposed(value: ir.Value) -> ir.Value | None:
    """The key whose last two axes the exporter swapped: reshaped to three axes, transposed, and reshaped back."""
    outer = value.producer()
    swap = _producer_of(outer, "Reshape")
    inner = None if swap is None or list(swap.attributes["perm"].as_ints()) != _SWAPPED else swap.inputs[0]
    folded = None if inner is None else inner.producer()
    return None if folded is None or folded.op_type != "Reshape" else folded.inputs[0]


def _producer_of(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """The transposition that a node of some kind reads."""
    source = node.inputs[0] if node is not None and node.op_type == op_type else None
    found = None if source is None else source.producer()
    return found if found is not None and found.op_type == "Transpose" else None


def _replace(graph: ir.Graph, attention: _Attention) -> None:
    old = attention.result.outputs[0]
    inputs = [attention.query, attention.key, attention.value]
    if attention.mask is not None:
        inputs.append(_in_16_bits(graph, attention.mask, attention))
    new = ir.Value(name=f"{old.name}_fused", type=old.type, shape=old.shape)
    node = ir.node(
        "Attention",
        inputs,
        # Kernels that fuse may not be there for a shape: then the parts are computed one by one.
        {"scale": attention.scale, "TRT_decomposable": 1},
        outputs=[new],
        name=f"attention_{old.name}",
    )
    graph.insert_before(attention.result, node)
    ir.convenience.replace_all_uses_with(old, new)


def _in_16_bits(graph: ir.Graph, mask: ir.Value, attention: _Attention) -> ir.Value:
    lowered = ir.Value(name=f"{mask.name}_{attention.result.name}", type=attention.query.type, shape=mask.shape)
    cast = ir.node("Cast", [mask], {"to": int(_FLOAT16)}, outputs=[lowered], name=f"cast_{lowered.name}")
    graph.insert_before(attention.result, cast)
    return lowered


def _drop_unread(graph: ir.Graph) -> None:
    """Leave out what led to the scores alone."""
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
