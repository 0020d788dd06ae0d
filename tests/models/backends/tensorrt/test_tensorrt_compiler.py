"""Engines built for real by tensorrt_rtx, which needs no GPU to build; none is run here."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from plumbline_models.backends import Tuning, open_backend, open_compiler
from plumbline_models.backends.tensorrt.backend import TENSORRT_RTX, TensorRtBackend
from plumbline_models.backends.tensorrt.builder import parse_network
from plumbline_models.backends.tensorrt.library import open_library, rtx_refusal
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, LIFT_GRAPH, unbuildable

RTX = "tensorrt-rtx"


@pytest.fixture(scope="session")
def rtx_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rtx")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_is_built_once_for_each_precision(rtx_dir: Path, precision: Any) -> None:
    compiler = open_compiler(RTX, precision=precision, tuning=Tuning(rtx_dir))
    kept = compiler.keep(IMAGE_GRAPH)
    assert (kept.graph, kept.precision, kept.was_found, kept.device) == ("tiny_image", precision, False, "sm86+")
    assert kept.num_layers > 10
    assert kept.num_bytes > 10_000
    assert kept.build_s > 0
    found = compiler.keep(unbuildable(IMAGE_GRAPH))
    assert found == replace(kept, was_found=True, build_s=0.0)


def test_sizes_are_part_of_an_engine(rtx_dir: Path) -> None:
    usual = open_compiler(RTX, precision="fp32", tuning=Tuning(rtx_dir)).keep(LIFT_GRAPH)
    small = open_compiler(RTX, precision="fp32", tuning=Tuning(rtx_dir, largest_sizes={"n": 8})).keep(LIFT_GRAPH)
    assert (usual.profile, small.profile) == ("rows 1x4 4x4 64x4", "rows 1x4 4x4 8x4")
    assert usual.folder != small.folder


def test_bf16_stands_in_for_fp16_where_values_are_too_large(rtx_dir: Path) -> None:
    wide = replace(LIFT_GRAPH, exceeds_fp16=True)
    assert open_compiler(RTX, precision="fp16", tuning=Tuning(rtx_dir)).keep(wide).precision == "bf16"


def test_shipped_engines_are_used_without_building(rtx_dir: Path, tmp_path: Path) -> None:
    open_compiler(RTX, precision="fp32", tuning=Tuning(rtx_dir)).keep(LIFT_GRAPH)
    tuning = Tuning(tmp_path / "cache", engines_dir=rtx_dir)
    kept = open_compiler(RTX, precision="fp32", tuning=tuning).keep(unbuildable(LIFT_GRAPH))
    assert kept.was_found
    assert kept.folder.is_relative_to(rtx_dir)
    assert not (tmp_path / "cache").exists()


def test_a_broken_engine_is_built_again(rtx_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    compiler = open_compiler(RTX, precision="fp32", tuning=Tuning(rtx_dir, largest_sizes={"n": 4}))
    plan = compiler.keep(LIFT_GRAPH).folder / "engine.plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    kept = compiler.keep(LIFT_GRAPH)
    assert not kept.was_found
    assert "engine.plan has another size" in caplog.text


@pytest.mark.parametrize(
    ("node", "operator"),
    [
        pytest.param("picked = Unique (rows)", "Unique", id="no such layer"),
        pytest.param("picked = Hardmax <axis = 7> (rows)", "Hardmax", id="an attribute out of range"),
    ],
)
def test_a_refused_node_is_named(tmp_path: Path, node: str, operator: str) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> small (float[n, 4] rows) => (float[m] picked) {%s}'
    model = onnx.parser.parse_model(text % node)
    model.graph.node[0].name = "picking_node"
    onnx.save(model, tmp_path / "graph.onnx")
    library = open_library("tensorrt_rtx")
    builder = library.api.Builder(library.new_logger())
    with pytest.raises(EngineError, match=f"refuses the graph small at node picking_node .{operator}.") as caught:
        parse_network(library, builder, tmp_path / "graph.onnx", graph="small")
    assert (caught.value.facts["node"], caught.value.facts["operator"]) == ("picking_node", operator)


def test_a_gateway_without_a_gpu_may_open_the_backend_but_not_compile(tmp_path: Path) -> None:
    backend = open_backend(RTX, precision="auto", tuning=Tuning(tmp_path))
    assert (backend.name, backend.precision) == (RTX, "fp16")
    unseen = TensorRtBackend(TENSORRT_RTX, precision="fp16", tuning=Tuning(tmp_path), find_devices=lambda: ())
    with pytest.raises(BackendUnavailableError, match="no NVIDIA GPU"):
        unseen.compile(LIFT_GRAPH)


@pytest.mark.parametrize("capability", ["75", "80", "90", "100"])
def test_a_gpu_that_the_package_does_not_run_on_is_refused_by_name(tmp_path: Path, capability: str) -> None:
    gpu = f"Plumb 100 (sm_{capability})"
    backend = TensorRtBackend(TENSORRT_RTX, precision="fp16", tuning=Tuning(tmp_path), find_devices=lambda: (gpu,))
    with pytest.raises(BackendUnavailableError, match=r"8\.6, 8\.9, 12\.0, 12\.1, and Plumb 100 .* install tensorrt "):
        backend.compile(LIFT_GRAPH)


@pytest.mark.parametrize("gpu", ["an RTX 3090 (sm_86)", "(sm_89)", "(sm_120)", "a GB10 (sm_121)", "not described"])
def test_gpus_of_its_support_matrix_are_served(gpu: str) -> None:
    assert rtx_refusal(gpu) is None


def test_the_cpu_and_what_compiles_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="not on the CPU"):
        open_backend(RTX, precision="auto", tuning=Tuning(tmp_path, device="cpu"))
    with pytest.raises(ConfigError, match="torch backend compiles nothing"):
        open_compiler("torch", precision="fp32", tuning=Tuning(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the engine loads where there is a GPU")
def test_an_engine_that_does_not_load_is_run_by_torch_and_said_so(
    rtx_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []
    tuning = Tuning(rtx_dir, on_fallback=lambda graph, backend: told.append((graph, backend)))
    backend = TensorRtBackend(TENSORRT_RTX, precision="fp32", tuning=tuning, find_devices=lambda: ("a GPU",))
    engine = backend.compile(LIFT_GRAPH)
    assert engine.info.backend == "torch"
    assert engine.run({"rows": np.ones((2, 4), np.float32)})["lifted"].shape == (2, 6)
    assert told == [("tiny_lift", RTX)]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "torch runs it instead and is slower" in errors[0]
