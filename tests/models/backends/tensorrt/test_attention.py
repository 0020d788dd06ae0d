"""Attention as one node: the same numbers, taken by TensorRT's parser, and spelt out again where an engine is wrong."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.backends import Tuning
from plumbline_models.backends.agreement import BOUNDS, draw_inputs, relative_difference, sample_rows
from plumbline_models.backends.tensorrt.attention import fuse_attention
from plumbline_models.backends.tensorrt.backend import TENSORRT_RTX, TensorRtBackend
from plumbline_models.backends.tensorrt.builder import BuildOrder, build_plan, parse_network
from plumbline_models.backends.tensorrt.compiler import PlanSpec
from plumbline_models.backends.tensorrt.library import open_library
from plumbline_models.backends.tensorrt.profiles import SizeChoices, profile_of
from plumbline_models.backends.tensorrt.stripped import export_graph
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine, EngineInfo
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from tests.models.evaluation import evaluate

WIDTH, NUM_HEADS = 64, 4
LIBRARY = open_library("tensorrt_rtx")


class TwoAttentions(nn.Module):
    """One without a mask, and a causal one that scales nothing, as T5's does not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.projections = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        for number, projection in enumerate(self.projections):
            query, key, value = (
                part.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for part in projection(tokens).chunk(3, dim=-1)
            )
            order = torch.arange(tokens.shape[1])
            mask = torch.where(order[None] > order[:, None], -1e4, 0.0) if number else None
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=1.0 if number else None
            )
            tokens = tokens + mixed.transpose(1, 2).flatten(2)
        return tokens


BATCH = Dim("batch", 1, 2, 8)
GRAPH = Graph(
    name="two_attentions",
    inputs=(TensorSpec("tokens", "float32", (BATCH, Dim("length", 2, 9, 32), WIDTH)),),
    outputs=("mixed",),
    fingerprint=hashlib.sha256(b"two_attentions").hexdigest(),
    build=lambda: TwoAttentions().eval(),
)


@pytest.mark.parametrize(("precision", "num_fused"), [("fp16", 2), ("bf16", 1), ("fp32", 0)])
def test_attention_becomes_one_node_with_the_same_numbers(tmp_path: Path, precision: Precision, num_fused: int) -> None:
    file = tmp_path / "graph.onnx"
    exported = export_graph(GRAPH, precision)
    exported.save(file)
    inputs = draw_inputs(GRAPH, exported.references.sizes)
    [spelt_out] = evaluate(str(file), inputs)
    assert fuse_attention(file) == num_fused
    model = onnx.load(file)
    nodes = [node for node in model.graph.node if node.op_type == "Attention"]
    scales = [attribute.f for node in nodes for attribute in node.attribute if attribute.name == "scale"]
    assert scales == pytest.approx([(WIDTH / NUM_HEADS) ** -0.5, 1.0][:num_fused])
    assert sum(node.op_type == "Softmax" for node in model.graph.node) == 2 - num_fused
    for node in nodes:
        [ours] = [attribute for attribute in node.attribute if attribute.name == "TRT_decomposable"]
        node.attribute.remove(ours)  # no attribute of ONNX's own
    [found] = evaluate(model, inputs)
    expected = exported.references.outputs["mixed"]
    bound = max(BOUNDS[precision] / 8, 2 * relative_difference(sample_rows(spelt_out), expected))
    assert relative_difference(sample_rows(found), expected) < bound


def test_tensorrt_takes_it_for_its_own_attention(tmp_path: Path) -> None:
    file = tmp_path / "graph.onnx"
    export_graph(GRAPH, "fp16").save(file)
    fuse_attention(file)
    builder = LIBRARY.api.Builder(LIBRARY.new_logger())
    network, _parser = parse_network(LIBRARY, builder, file, graph=GRAPH.name)
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    assert kinds.count(LIBRARY.api.LayerType.ATTENTION_INPUT) == 2
    assert LIBRARY.api.LayerType.SOFTMAX not in kinds
    order = BuildOrder(GRAPH.name, file, profile_of(GRAPH, SizeChoices()))
    assert build_plan(LIBRARY, order).plan is not None


class FaultyLoader:
    """Starts engines that compute with torch; those with fused attention give other numbers."""

    def open(self, graph: Graph, content: Any) -> Any:
        return content

    def start(self, spec: PlanSpec, opened: Any) -> Engine:
        return _Started(spec)


class _Started:
    def __init__(self, spec: PlanSpec) -> None:
        self._spec = spec
        self._exact = TorchBackend(torch.device("cpu"), precision="fp32").compile(spec.graph)
        self.info = EngineInfo(spec.graph.name, "tensorrt-rtx", spec.precision, "cuda", spec.key.digest)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        factor = np.float32(1.2 if self._spec.is_fused else 1.0)
        return {name: factor * values for name, values in self._exact.run(inputs).items()}


def test_fused_attention_that_gives_other_numbers_is_spelt_out_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []
    tuning = Tuning(tmp_path, on_fallback=lambda *what: told.append(what))
    backend = TensorRtBackend(
        TENSORRT_RTX, precision="fp16", tuning=tuning, find_devices=lambda: ("A GPU",), loader=FaultyLoader()
    )
    assert backend.compile(GRAPH).info.backend == "tensorrt-rtx"
    assert told == [("two_attentions", "tensorrt-rtx")]
    assert "one with attention spelt out is built instead" in caplog.text
    exact = TensorRtBackend(
        TENSORRT_RTX,
        precision="fp32",
        tuning=replace(tuning, cache_dir=tmp_path / "fp32"),
        find_devices=lambda: ("A GPU",),
        loader=FaultyLoader(),
    )
    assert exact.compile(GRAPH).info.precision == "fp32"  # where there is nothing to fuse
    assert len(told) == 1
