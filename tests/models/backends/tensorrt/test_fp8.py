"""The tiny image tower in fp8, built for real by tensorrt_rtx; its graph is evaluated node by node, nothing is run."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from plumbline_models.backends import Tuning, open_backend, open_compiler
from plumbline_models.backends.ahead import KeptEngine
from plumbline_models.backends.embedding_loss import MIN_COSINE
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.tensorrt.backend import TENSORRT_RTX, TensorRtBackend
from plumbline_models.backends.tensorrt.builder import FP8_TARGETS, BuildOrder, build_plan
from plumbline_models.backends.tensorrt.compiler import PlanSpec
from plumbline_models.backends.tensorrt.evaluating import Evaluation
from plumbline_models.backends.tensorrt.fp8 import Fp8, fp8_refusal
from plumbline_models.backends.tensorrt.library import open_library
from plumbline_models.backends.tensorrt.profiles import SizeChoices, profile_of
from plumbline_models.backends.tensorrt.quantising import list_products
from plumbline_models.backends.tensorrt.stripped import export_graph
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_models.backends.tuning import PrecisionChoice
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.engines import Engine, EngineInfo
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from tests.models.backends.calibration_images import draw_calibration_images
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, IMAGE_PX, LIFT_GRAPH, build_image_tower, unbuildable

RTX = "tensorrt-rtx"
LARGE = 30_000.0  # fp16 holds it; what is 0.1 beside it is nothing in E4M3, whose scale is that of the largest
ADA = "an L4 (sm_89)"


def preprocess(image: Pixels) -> dict[str, Array]:
    return {"pixels": image[None, :IMAGE_PX, :IMAGE_PX]}


TOWER = replace(IMAGE_GRAPH, preprocess=preprocess)


def build_with_outliers(*, in_all: bool) -> Any:
    """One weight of each row is large and meets a zero, so that nothing changes but the range of the weights."""
    tower = build_image_tower()
    block, width = tower.block, tower.block.linear1.in_features
    with torch.no_grad():
        block.norm2.weight[0] = block.norm2.bias[0] = 0
        block.linear1.weight[:, 0] = LARGE
        if in_all:
            block.norm1.weight[0] = block.norm1.bias[0] = 0
            block.self_attn.in_proj_weight[2 * width] = block.self_attn.in_proj_bias[2 * width] = 0
            block.self_attn.in_proj_weight[: 2 * width, 0] = LARGE
            block.self_attn.out_proj.weight[:, 0] = LARGE
            block.linear1.weight[0], block.linear1.bias[0] = 0, -1
            block.linear2.weight[:, 0] = LARGE
    return tower


def with_outliers(*, in_all: bool) -> Any:
    name = f"outliers {in_all}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    return replace(TOWER, fingerprint=digest, build=lambda: build_with_outliers(in_all=in_all))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_calibration_images(tmp_path_factory.mktemp("images"), 24)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shipped")


@pytest.fixture(scope="module")
def kept(shipped: Path, images: Path) -> KeptEngine:
    return open_compiler(RTX, precision="fp8", tuning=Tuning(shipped, calibration_dir=images)).keep(TOWER)


@pytest.fixture
def quantise(tmp_path: Path, images: Path) -> Callable[[Any], Path]:
    """A graph's file as TensorRT gets it."""

    def run(graph: Any) -> Path:
        exported = export_graph(graph, "fp16")
        exported.save(tmp_path / "graph.onnx")
        fp8 = Fp8(images, EngineStore(tmp_path / "store"))
        fp8.quantise(graph, tmp_path / "graph.onnx", exported.references.sizes)
        return tmp_path / "graph.onnx"

    return run


def num_in_fp8(onnx_file: Path) -> int:
    """Products of which both factors are."""
    nodes = list(onnx.load(onnx_file).graph.node)
    dequantised = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return sum(node.op_type in {"MatMul", "Gemm"} and dequantised.issuperset(node.input[:2]) for node in nodes)


def test_an_engine_in_fp8_is_built_once_for_gpus_that_have_it(shipped: Path, images: Path, kept: KeptEngine) -> None:
    assert (kept.precision, kept.device, kept.was_found) == ("fp8", "sm89+", False)
    compiler = open_compiler(RTX, precision="fp8", tuning=Tuning(shipped, calibration_dir=images))
    assert compiler.keep(unbuildable(TOWER)) == replace(kept, was_found=True, build_s=0.0)
    assert (compiler.precision, compiler.precision_of(TOWER), compiler.precision_of(LIFT_GRAPH)) == (
        "fp8",
        "fp8",
        "fp16",
    )


def test_other_precisions_and_other_images_are_other_engines(tmp_path: Path, shipped: Path, kept: KeptEngine) -> None:
    others = draw_calibration_images(tmp_path / "others", 24, seed=1)
    choices: list[tuple[PrecisionChoice, Path | None]] = [("fp16", None), ("fp8", others)]
    for precision, folder in choices:
        compiler = open_compiler(RTX, precision=precision, tuning=Tuning(shipped, calibration_dir=folder))
        with pytest.raises(AssertionError, match="built again"):
            compiler.keep(unbuildable(TOWER))


def test_a_shipped_engine_needs_no_images_and_without_either_there_is_none(
    tmp_path: Path, shipped: Path, kept: KeptEngine
) -> None:
    tuning = Tuning(tmp_path / "cache", engines_dir=shipped)
    found = open_compiler(RTX, precision="fp8", tuning=tuning).keep(unbuildable(TOWER))
    assert (found.was_found, found.folder.name) == (True, kept.folder.name)
    with pytest.raises(ConfigError, match=r"There is none of tiny_image for this version"):
        open_compiler(RTX, precision="fp8", tuning=replace(tuning, engines_dir=tmp_path)).keep(TOWER)
    for open_it in (open_backend, open_compiler):
        with pytest.raises(ConfigError, match=r"fp8 is calibrated on images.*--precision fp8 --calibration"):
            open_it(RTX, precision="fp8", tuning=Tuning(tmp_path))


def test_products_with_weights_are_in_fp8_and_embeddings_keep_their_direction(
    quantise: Callable[[Any], Path], draw_images: Callable[[int], dict[str, Array]]
) -> None:
    file = quantise(TOWER)
    assert num_in_fp8(file) == len(list_products(file)) == 5
    batch = draw_images(8)
    [exact] = TorchBackend(torch.device("cpu"), precision="fp32").compile(TOWER).run(batch).values()
    [found] = Evaluation(file).run(batch).values()
    # Below 1 by more than fp16 takes, or nothing was quantised.
    assert MIN_COSINE < np.sum(exact * found, axis=1).min() < 0.99999


def test_tensorrt_has_it_in_fp8_which_older_gpus_lack(quantise: Callable[[Any], Path]) -> None:
    file, library = quantise(TOWER), open_library("tensorrt_rtx")
    order = BuildOrder("tower", file, profile_of(TOWER, SizeChoices()), targets=FP8_TARGETS)
    assert build_plan(library, order).plan is not None
    with pytest.raises(EngineError) as caught:
        build_plan(library, replace(order, targets=("SM86",)))
    assert "HW-specific datatypes: fp8_e4m3" in str(caught.value.facts["reason"])


def test_a_product_that_fp8_would_spoil_stays_in_fp16(quantise: Callable[[Any], Path]) -> None:
    assert num_in_fp8(quantise(with_outliers(in_all=False))) == 4


class Loader:
    """Starts engines that compute with torch."""

    def open(self, graph: Any, content: Any) -> Any:
        return content

    def start(self, spec: PlanSpec, opened: Any) -> Engine:
        return Started(spec)


class Started:
    def __init__(self, spec: PlanSpec) -> None:
        self._exact = TorchBackend(torch.device("cpu"), precision="fp32").compile(spec.graph)
        self.info = EngineInfo(spec.graph.name, RTX, spec.precision, "cuda", spec.key.digest)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._exact.run(inputs)


def serve(graph: Any, tuning: Tuning, gpu: str = ADA) -> Engine:
    backend = TensorRtBackend(
        TENSORRT_RTX, precision="fp8", tuning=tuning, find_devices=lambda: (gpu,), loader=Loader()
    )
    return backend.compile(graph)


def test_a_network_that_loses_too_much_runs_in_fp16_and_that_is_said(
    tmp_path: Path, images: Path, shipped: Path, kept: KeptEngine, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []
    tuning = Tuning(tmp_path, calibration_dir=images, on_fallback=lambda *what: told.append(what))
    assert serve(with_outliers(in_all=True), tuning).info.precision == "fp16"
    assert told == [("tiny_image", RTX)]
    assert "one in fp16 runs instead: The graph tiny_image loses too much in fp8" in caplog.text
    with pytest.raises(EngineError, match="loses too much in fp8"):
        open_compiler(RTX, precision="fp8", tuning=tuning).keep(with_outliers(in_all=True))
    assert serve(TOWER, replace(tuning, cache_dir=shipped)).info.precision == "fp8"
    assert serve(LIFT_GRAPH, tuning).info.precision == "fp16"
    assert len(told) == 1


def test_gpus_and_backends_without_fp8_are_refused_by_name(tmp_path: Path, images: Path) -> None:
    tuning = Tuning(tmp_path, calibration_dir=images)
    with pytest.raises(BackendUnavailableError, match=r"fp8 takes a GPU .* 8\.9 .* an RTX 3090 .* has 8\.6: set prec"):
        serve(TOWER, tuning, gpu="an RTX 3090 (sm_86)")
    assert [fp8_refusal(f"a GPU (sm_{number})") is None for number in ("80", "89", "90", "120")] == [False, *[True] * 3]
    for name in ("openvino", "torch", "torch-compile"):
        with pytest.raises(ConfigError, match=f"The {name} backend .*fp8"):
            open_backend(name, precision="fp8", tuning=tuning)
