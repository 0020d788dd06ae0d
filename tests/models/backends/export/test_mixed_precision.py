"""Which node runs in which type, and that what runs in 16 bits still gives the graph's results."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from plumbline_models.backends.export.export import export_onnx
from plumbline_models.backends.export.mixed_precision import LowPrecision, lower_precision
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, TEXT_GRAPH
from tests.models.evaluation import evaluate

LAYER = """
<ir_version: 10, opset_import: ["" : 20]>
layer (float[n, 4] rows) => (float[n, 3] margins)
<float[4, 8] up = {%s}, float[8] bias = {%s}, float[8, 4] down = {%s}, float[4, 3] contrasts = {%s}> {
    centre = ReduceMean <keepdims = 1> (rows)
    normed = Sub (rows, centre)
    raised = MatMul (normed, up)
    biased = Add (raised, bias)
    gate = Sigmoid (biased)
    gated = Mul (biased, gate)
    lowered = MatMul (gated, down)
    left = Add (rows, lowered)
    square = Mul (lowered, lowered)
    length = ReduceSum <keepdims = 1> (square)
    unit = Div (left, length)
    margins = MatMul (unit, contrasts)
}
"""


def layer(scale: float = 1.0) -> ir.Model:
    rng = np.random.default_rng(3)

    def draw(size: int) -> str:
        return ", ".join(f"{value:.6g}" for value in rng.standard_normal(size) * scale)

    return ir.from_onnx_text(LAYER % (draw(32), draw(8), draw(32), draw(12)))


def types_of(model: ir.Model) -> dict[str, str]:
    """What each node computes in, by the name of its result, casts left out."""
    for value in (value for node in model.graph for value in node.outputs):
        assert value.name is not None
    return {
        node.outputs[0].name: node.inputs[0].dtype.name  # type: ignore[union-attr, misc]
        for node in model.graph
        if node.op_type != "Cast"
    }


def typed(model: ir.Model) -> ir.Model:
    """The same with every value's type worked out, as the exporter leaves it."""
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    return ir.from_proto(inferred)


@pytest.mark.parametrize(("precision", "low"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_products_and_what_belongs_to_them_run_in_16_bits(precision: LowPrecision, low: str) -> None:
    model = typed(layer())
    assert lower_precision(model, precision) == 2
    types = types_of(model)
    assert {name for name, kind in types.items() if kind == low} == {"raised", "biased", "gate", "gated", "lowered"}
    assert {name for name, kind in types.items() if kind == "FLOAT"} == {
        *("centre", "normed"),  # a norm
        "left",  # the residual stream
        *("square", "length", "unit"),  # a sum of squares
        "margins",  # a product that is an output
    }


def test_weights_of_which_only_copies_are_read_are_left_out() -> None:
    model = typed(layer())
    lower_precision(model, "fp16")
    assert sorted(model.graph.initializers) == ["bias_float16", "contrasts", "down_float16", "up_float16"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_weight_beyond_fp16_is_refused_by_name_and_fits_bf16() -> None:
    model = typed(layer(scale=1e5))
    with pytest.raises(EngineError, match="set precision to bf16") as caught:
        lower_precision(model, "fp16")
    assert caught.value.facts["weight"] == "up"
    other = typed(layer(scale=1e5))
    lower_precision(other, "bf16")
    ir.to_proto(other)


@pytest.fixture(scope="module", params=[IMAGE_GRAPH, TEXT_GRAPH], ids=lambda graph: graph.name)
def graph(request: pytest.FixtureRequest) -> Graph:
    return request.param


@pytest.fixture(scope="module")
def exported(graph: Graph) -> bytes:
    return export_onnx(graph).to_bytes()


@pytest.fixture
def batch(
    graph: Graph,
    draw_images: Callable[[int], dict[str, Array]],
    draw_texts: Callable[[int, int], dict[str, Array]],
) -> dict[str, Array]:
    return draw_images(3) if graph is IMAGE_GRAPH else draw_texts(3, 9)


@pytest.mark.parametrize(
    ("precision", "largest_error"),
    # Steps of 2^-11 and 2^-8 of a value, over a few dozen roundings that mostly cancel.
    [pytest.param("fp16", 2e-3, id="fp16"), pytest.param("bf16", 1.6e-2, id="bf16")],
)
def test_a_tower_in_16_bits_gives_the_rows_of_float32(
    exported: bytes, batch: dict[str, Array], precision: LowPrecision, largest_error: float
) -> None:
    model = ir.from_proto(onnx.load_from_string(exported))
    assert lower_precision(model, precision) >= 4
    [lowered] = evaluate(ir.to_proto(model), batch, ["rows"])
    [expected] = evaluate(exported, batch, ["rows"])
    assert lowered.dtype == np.float32
    error = np.abs(lowered - expected).max()
    assert 0 < error < largest_error
    assert np.sum(lowered * expected, axis=1).min() > 0.999
