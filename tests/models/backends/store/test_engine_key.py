from dataclasses import replace
from typing import Any

import pytest

from plumbline_models.backends.store.key import Recipe, engine_key
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.source_digest import source_digest
from tests.models.backends.tiny_graphs import BATCH, TEXT_GRAPH, unbuildable

RECIPE = Recipe(backend="openvino", version="1", precision="fp32", device="cpu", options={"level": 3})
IDS = TEXT_GRAPH.inputs[0]
KEY = engine_key(TEXT_GRAPH, RECIPE)


def test_the_digest_is_a_sha256_that_does_not_depend_on_how_a_module_is_built() -> None:
    assert len(KEY.digest) == 64
    assert engine_key(unbuildable(TEXT_GRAPH), replace(RECIPE)).digest == KEY.digest


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(replace(TEXT_GRAPH, name="other"), id="name"),
        pytest.param(replace(TEXT_GRAPH, fingerprint="0" * 64), id="weights"),
        pytest.param(replace(TEXT_GRAPH, outputs=("sums", "rows")), id="order of outputs"),
        pytest.param(replace(TEXT_GRAPH, inputs=TEXT_GRAPH.inputs[::-1]), id="order of inputs"),
        pytest.param(replace(TEXT_GRAPH, inputs=(replace(IDS, shape=(BATCH, 77)), TEXT_GRAPH.inputs[1])), id="shape"),
        pytest.param(replace(TEXT_GRAPH, inputs=(replace(IDS, dtype="uint8"), TEXT_GRAPH.inputs[1])), id="dtype"),
        pytest.param(
            replace(TEXT_GRAPH, inputs=(TEXT_GRAPH.inputs[0], TensorSpec("ends", "int64", (Dim("n", 1, 4, 65),)))),
            id="bounds",
        ),
    ],
)
def test_another_graph_has_another_key(graph: Graph) -> None:
    assert engine_key(graph, RECIPE).digest != KEY.digest


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "tensorrt"},
        {"version": "2"},
        {"precision": "bf16"},
        {"device": "sm_90"},
        {"options": {"level": 4}},
        {"options": {}},
        {"sources": ("backends.tensorrt.builder",)},
    ],
    ids="-".join,
)
def test_another_recipe_has_another_key(change: dict[str, Any]) -> None:
    assert engine_key(TEXT_GRAPH, replace(RECIPE, **change)).digest != KEY.digest


def test_the_key_names_the_sources_of_the_exporter_and_of_the_recipe() -> None:
    key = engine_key(TEXT_GRAPH, replace(RECIPE, sources=("backends.tensorrt.builder",)))
    assert key.facts["sources"] == {
        name: source_digest(name) for name in ("backends.export", "backends.agreement", "backends.tensorrt.builder")
    }
