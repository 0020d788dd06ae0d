"""Causal networks' graphs as TensorRT gets them, in bf16: evaluated node by node, then built by tensorrt_rtx.

A tower of tiles, and a language part whose positions have three axes. The graphs of the other tiny networks, HPSv3's
and the tower with windows among them, were built once by hand: it alone takes as long as all of these.
"""

from pathlib import Path

import pytest

from loadtests.goldens.vqascore import GOLDEN
from plumbline_models.backends.agreement import BOUNDS, draw_inputs, relative_difference, sample_rows
from plumbline_models.backends.tensorrt.builder import BuildOrder, build_plan
from plumbline_models.backends.tensorrt.library import open_library
from plumbline_models.backends.tensorrt.profiles import SizeChoices, profile_of
from plumbline_models.backends.tensorrt.stripped import export_graph
from plumbline_models.core.graph import Graph
from plumbline_serve.configured_scorers import wanted_graphs
from plumbline_serve.settings import Settings
from tests.models.evaluation import evaluate

SMALL = SizeChoices(
    typical={"prefix": 24, "tokens": 20, "tail": 8, "shared": 24, "tiles": 2, "batch": 2},
    largest={"prefix": 512, "tokens": 512, "tail": 64, "shared": 512, "tiles": 8, "batch": 8},
)


def graph_of(model: str, name: str) -> Graph:
    settings = Settings(backend="tensorrt-rtx", scorers={"vqascore": {"model": str(GOLDEN / model)}})
    return next(graph for graph, _ in wanted_graphs(settings, "tensorrt-rtx", "fp16") if graph.name == name)


@pytest.mark.parametrize(
    ("model", "name"),
    [("smolvlm_tiny", "causal_image"), ("qwen25vl_tiny", "causal_prefix"), ("qwen25vl_tiny", "causal_tails")],
)
def test_a_causal_graph_keeps_its_numbers_in_bf16_and_is_built(tmp_path: Path, model: str, name: str) -> None:
    graph, onnx_file = graph_of(model, name), tmp_path / "graph.onnx"
    profile = profile_of(graph, SMALL)
    exported = export_graph(graph, "bf16", sizes={each.name: each.typical for each in profile})
    exported.save(onnx_file)
    references = exported.references
    found = evaluate(str(onnx_file), draw_inputs(graph, references.sizes))
    for output, values in zip(graph.outputs, found, strict=True):
        difference = relative_difference(sample_rows(values), references.outputs[output])
        assert 0 < difference < BOUNDS["bf16"] / 2, output
    assert build_plan(open_library("tensorrt_rtx"), BuildOrder(name, onnx_file, profile)).plan is not None
