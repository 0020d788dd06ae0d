"""Graphs without their weights: nothing of the weights is left, and with them the results are the graph's own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from safetensors.numpy import load_file

from plumbline_models.backends.export.export import export_onnx
from plumbline_models.backends.export.stripping import strip_weights
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.store.key import Recipe, engine_key
from plumbline_models.backends.tensorrt.stripped import StrippedGraph, keep_stripped
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.graph import Graph
from tests.models.backends.other_weights import with_other_weights
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, LIFT_GRAPH, TEXT_GRAPH
from tests.models.evaluation import evaluate

Keep = Callable[..., StrippedGraph]


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Keep:
    """Keeps a graph and its weights apart, each graph once."""
    store = EngineStore(tmp_path_factory.mktemp("apart"))

    def make(graph: Graph, precision: Precision = "fp32") -> StrippedGraph:
        recipe = Recipe(backend="probe", version="1", precision=precision, device="any")
        return keep_stripped(graph, engine_key(graph, recipe), precision=precision, store=store)

    return make


def test_weights_become_inputs_and_all_else_stays() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
        small (float[n, 2] rows) => (float[n, 2] scaled, float[2] given)
        <float[2] weight = {1, 2}, float scale = {3}, float[1] shift = {4}, int64[2] axes = {-1, 2},
         float[2] unread = {5, 6}, float[2] given = {7, 8}>
        { laid = Reshape (rows, axes)
          weighed = Mul (laid, weight)
          moved = Add (weighed, shift)
          scaled = Mul (moved, scale) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    taken = strip_weights(model)
    assert {name: tensor.numpy().tolist() for name, tensor in taken.items()} == {"weight": [1, 2]}
    left = ir.to_proto(model)
    assert {tensor.name for tensor in left.graph.initializer} == {"scale", "shift", "axes", "given"}
    rows = np.asarray([[1, 1]], np.float32)
    scaled, given = evaluate(left, {"rows": rows, "weight": taken["weight"].numpy()})
    assert (scaled.tolist(), given.tolist()) == ([[15, 18]], [7, 8])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", [IMAGE_GRAPH, TEXT_GRAPH], ids=lambda graph: graph.name)
def test_given_its_weights_the_graph_computes_what_it_did(
    keep: Keep, draw_images: Any, draw_texts: Any, graph: Graph, precision: Precision
) -> None:
    batch = draw_images(3) if graph is IMAGE_GRAPH else draw_texts(3, 7)
    whole = export_onnx(graph)
    if precision == "fp16":
        whole.lower("fp16")
    expected = evaluate(onnx.load_from_string(whole.to_bytes()), batch)
    parts = keep(graph, precision)
    found = evaluate(str(parts.onnx_file), {**batch, **load_file(parts.weights_file)})
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_weight_and_no_path_is_left_in_the_graph(keep: Keep) -> None:
    content = keep(IMAGE_GRAPH).onnx_file.read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert max((int(np.prod(tensor.dims)) for tensor in floats), default=1) <= 1
    assert {given.name for given in model.graph.input} == {"pixels", *load_file(keep(IMAGE_GRAPH).weights_file)}
    assert str(Path(__file__).parents[1]).encode() not in content
    assert len(content) < 60_000


def build_scaled_lift(scale: float) -> Any:
    from torch import nn  # noqa: PLC0415 - as the tiny graphs do

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = LIFT_GRAPH.build()

        def forward(self, rows: Any) -> Any:
            return self.lift(rows) * scale

    return Scaled().eval()


def build_wide_lift() -> Any:
    from torch import nn  # noqa: PLC0415 - as the tiny graphs do

    return nn.Linear(4, 7).eval()


def test_other_weights_leave_the_structure_and_another_architecture_does_not(keep: Keep) -> None:
    scaled = replace(LIFT_GRAPH, fingerprint="2" * 64, build=lambda: build_scaled_lift(2.0))
    graphs = {
        "usual": LIFT_GRAPH,
        "other weights": with_other_weights(LIFT_GRAPH, seed=7),
        "wider": replace(LIFT_GRAPH, fingerprint="1" * 64, build=build_wide_lift),
        "scaled": scaled,
        "scaled otherwise": replace(scaled, fingerprint="3" * 64, build=lambda: build_scaled_lift(3.0)),
    }
    structures = {name: keep(graph).structure() for name, graph in graphs.items()}
    assert structures["usual"] == structures["other weights"]
    assert len(set(structures.values())) == 4
    assert keep(graphs["usual"]).weights_file.read_bytes() != keep(graphs["other weights"]).weights_file.read_bytes()


def test_a_structure_is_shared_only_by_what_is_exported_alike(keep: Keep) -> None:
    trained, trained_further = (with_other_weights(IMAGE_GRAPH, seed) for seed in (8, 9))
    assert keep(trained).structure() == keep(trained_further).structure()
    assert keep(trained, "fp16").structure() != keep(trained).structure()
    # Before training norms and biases are equal to each other; exporting makes one of equal weights.
    assert keep(IMAGE_GRAPH).structure() != keep(trained).structure()
