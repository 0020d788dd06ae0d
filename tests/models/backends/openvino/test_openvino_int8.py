"""The tiny image tower in int8, quantised by the real NNCF."""

import contextlib
import io
import itertools
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from plumbline_models.backends import Backend, Tuning, open_backend, open_compiler
from plumbline_models.backends.embedding_loss import MIN_COSINE, measure_loss
from plumbline_models.backends.openvino.backend import OpenVinoBackend
from plumbline_models.backends.openvino.runtime import open_core, saturates_in_int8
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import ConfigError, EngineError
from tests.models.backends.calibration_images import draw_calibration_images
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, IMAGE_PX, LIFT_GRAPH, unbuildable
from tests.programs import program_environment

Batch = dict[str, Array]


def preprocess(image: Pixels) -> Batch:
    return {"pixels": image[None, :IMAGE_PX, :IMAGE_PX]}


TOWER = replace(IMAGE_GRAPH, preprocess=preprocess)
ROWS = {"rows": np.ones((2, 4), np.float32)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_calibration_images(tmp_path_factory.mktemp("images"), 24)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder as `plumbline compile --out` makes it, with the tower in int8; building it says nothing."""
    folder = tmp_path_factory.mktemp("shipped")
    compiler = open_compiler("openvino", precision="int8", tuning=tuning(folder, calibration_dir=images))
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        kept = compiler.keep(TOWER)
    assert (kept.precision, kept.was_found, said.getvalue()) == ("int8", False, "")
    return folder


def tuning(cache_dir: Path, *, engines_dir: Path | None = None, calibration_dir: Path | None = None) -> Tuning:
    return Tuning(cache_dir, num_threads=1, engines_dir=engines_dir, calibration_dir=calibration_dir)


def open_int8(cache_dir: Path, **folders: Path | None) -> Backend:
    return open_backend("openvino", precision="int8", tuning=tuning(cache_dir, **folders))


def test_a_tower_in_int8_keeps_the_direction_of_rows(
    shipped: Path, images: Path, image_engine: Engine, draw_images: Callable[[int], Batch]
) -> None:
    engine = open_int8(shipped, calibration_dir=images).compile(unbuildable(TOWER))
    batch = draw_images(8)
    cosines = np.sum(engine.run(batch)["rows"] * image_engine.run(batch)["rows"], axis=1)
    assert engine.info.precision == "int8"
    # Noise, where the images were smooth: measured 0.9991. Below 1 by more than bf16 takes, or nothing was quantised.
    assert MIN_COSINE < cosines.min() < 0.99999


def test_its_weights_are_kept_in_eight_bits(shipped: Path, engine_dir: Path, image_engine: Engine) -> None:
    [small] = (shipped / "engines").glob("*/graph.bin")
    large = engine_dir / "engines" / image_engine.info.key / "graph.bin"
    assert small.stat().st_size < 0.6 * large.stat().st_size  # the patches' and the last product's stay in float32


def test_graphs_without_such_a_form_run_as_with_auto(tmp_path: Path, images: Path, lift_engine: Engine) -> None:
    backend = open_int8(tmp_path, calibration_dir=images)
    engine = backend.compile(LIFT_GRAPH)
    usual = open_backend("openvino", precision="auto", tuning=tuning(tmp_path))
    assert backend.precision == "int8"
    assert isinstance(backend, OpenVinoBackend)
    assert backend.precision_of(LIFT_GRAPH) == engine.info.precision != backend.precision_of(TOWER)
    assert engine.info == usual.compile(LIFT_GRAPH).info
    assert engine.info.key == lift_engine.info.key


def test_other_precisions_never_find_it(shipped: Path) -> None:
    with pytest.raises(AssertionError, match="built again"):
        open_backend("openvino", precision="fp32", tuning=tuning(shipped)).compile(unbuildable(TOWER))


def test_other_images_make_another_engine(tmp_path: Path, shipped: Path) -> None:
    others = draw_calibration_images(tmp_path / "others", 24, seed=1)
    with pytest.raises(AssertionError, match="built again"):
        open_int8(shipped, calibration_dir=others).compile(unbuildable(TOWER))


def test_shipped_engines_need_neither_images_nor_a_place_to_write(
    tmp_path: Path, shipped: Path, images: Path, draw_images: Callable[[int], Batch]
) -> None:
    engine = open_int8(tmp_path / "cache", engines_dir=shipped).compile(unbuildable(TOWER))
    built = open_int8(shipped, calibration_dir=images).compile(unbuildable(TOWER))
    batch = draw_images(4)
    np.testing.assert_array_equal(engine.run(batch)["rows"], built.run(batch)["rows"])
    assert engine.info == built.info
    assert not (tmp_path / "cache").exists()


def test_a_shipped_engine_that_is_broken_asks_for_images(tmp_path: Path, shipped: Path) -> None:
    shutil.copytree(shipped, tmp_path / "shipped")
    [weights] = (tmp_path / "shipped" / "engines").glob("*/graph.bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match=r"engines\.calibration_dir"):
        open_int8(tmp_path / "cache", engines_dir=tmp_path / "shipped").compile(TOWER)


def test_two_shipped_engines_of_a_graph_are_one_too_many(tmp_path: Path, shipped: Path) -> None:
    folder = shutil.copytree(shipped, tmp_path / "shipped")
    others = draw_calibration_images(tmp_path / "others", 24, seed=1)
    open_compiler("openvino", precision="int8", tuning=tuning(folder, calibration_dir=others)).keep(TOWER)
    with pytest.raises(ConfigError, match=r"2 engines of tiny_image in engines\.dir that differ in their calibration"):
        open_int8(tmp_path / "cache", engines_dir=folder).compile(TOWER)


def test_a_folder_without_the_graph_asks_for_images(tmp_path: Path, shipped: Path) -> None:
    other = replace(TOWER, fingerprint="0" * 64)
    with pytest.raises(ConfigError, match="There is none of tiny_image for this version"):
        open_int8(tmp_path, engines_dir=shipped).compile(other)


def test_without_images_or_engines_nothing_opens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engines\.calibration_dir.*plumbline compile --precision int8"):
        open_int8(tmp_path)


@pytest.mark.parametrize("backend", ["torch", "tensorrt-rtx"])
def test_other_backends_say_who_computes_in_int8(tmp_path: Path, backend: str) -> None:
    with pytest.raises(ConfigError, match="openvino"):
        open_backend(backend, precision="int8", tuning=tuning(tmp_path))


class Flat(nn.Module):
    """Two products of bare pixels, with no norm that would bring them to one scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3 * IMAGE_PX**2, 64), nn.Linear(64, 32)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        row = self.last(torch.relu(self.first(pixels.flatten(1).to(self.last.weight.dtype) / 255.0 - 0.5)))
        return row / row.norm(dim=-1, keepdim=True)


def test_an_engine_that_loses_too_much_is_refused(tmp_path: Path, images: Path) -> None:
    number = itertools.count()

    def grey_but_for_the_held_out(image: Pixels) -> Batch:
        """As if the engine were calibrated on another kind of images than it is measured with."""
        pixels = preprocess(image)["pixels"]
        return {"pixels": pixels if next(number) % 4 == 0 else 127 + pixels // 128}

    graph = replace(TOWER, name="tiny_flat", fingerprint="1" * 64, build=Flat, preprocess=grey_but_for_the_held_out)
    with pytest.raises(EngineError, match=r"tiny_flat loses too much in int8: .* with float32 is 0\.\d{4} \(at least"):
        open_int8(tmp_path, calibration_dir=images).compile(graph)
    assert not list((tmp_path / "engines").glob("*/manifest.json"))


def test_nncf_reports_to_nobody(shipped: Path) -> None:
    assert sys.modules["openvino_telemetry"] is None


WITHOUT_VNNI = """
import json, sys
from pathlib import Path
import numpy as np
from tests.models.backends.openvino.test_openvino_int8 import TOWER, open_int8
from plumbline_models.backends import open_backend
from plumbline_models.backends.openvino.runtime import cpu_capabilities, open_core, saturates_in_int8
from plumbline_models.core.errors import ConfigError

folder, images, shipped = map(Path, sys.argv[1:])
core = open_core()
said = {"saturates": saturates_in_int8(core), "has_bf16": "BF16" in cpu_capabilities(core), "refused": ""}
engine = open_int8(folder, calibration_dir=images).compile(TOWER)
np.save(folder / "rows.npy", engine.run({"pixels": np.load(folder / "pixels.npy")})["rows"])
try:
    open_int8(folder / "unused", engines_dir=shipped).compile(TOWER)
except ConfigError as error:
    said["refused"] = error.detail
print(json.dumps(said))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only kernels of x86 add up in sixteen bits")
def test_a_cpu_without_vnni_gets_an_engine_that_does_not_overflow(
    tmp_path: Path, shipped: Path, images: Path, image_engine: Engine, draw_images: Callable[[int], Batch]
) -> None:
    """OpenVINO's kernels heed the variable, so that the instructions of a smaller CPU can be had on any."""
    batch, has_vnni = draw_images(8), not saturates_in_int8(open_core())
    np.save(tmp_path / "pixels.npy", batch["pixels"])
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_VNNI, tmp_path, images, shipped],
        env=program_environment(ONEDNN_MAX_CPU_ISA="AVX2"),
        check=True,
        capture_output=True,
    )
    said = json.loads(ran.stdout)
    assert (said["saturates"], said["has_bf16"]) == (True, False)
    assert ("is for CPUs with VNNI" in said["refused"]) == has_vnni
    exact = image_engine.run(batch)["rows"]
    assert np.sum(np.load(tmp_path / "rows.npy") * exact, axis=1).min() > MIN_COSINE
    portable = open_int8(tmp_path / "unused", engines_dir=tmp_path).compile(unbuildable(TOWER))
    assert np.sum(portable.run(batch)["rows"] * exact, axis=1).min() > MIN_COSINE


def unit(rows: Array) -> Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("noise", "is_bearable"),
    [pytest.param(0.0, True, id="none"), pytest.param(0.01, True, id="little"), pytest.param(0.3, False, id="much")],
)
def test_a_loss_is_bearable_within_both_bounds(noise: float, is_bearable: bool) -> None:
    rng = np.random.default_rng(0)
    before, others = unit(rng.standard_normal((8, 32))), unit(rng.standard_normal((24, 32)))
    loss = measure_loss(before, unit(before + noise * rng.standard_normal(before.shape) / 32**0.5), others)
    assert loss.is_bearable is is_bearable


def test_a_loss_that_is_no_number_is_not_bearable() -> None:
    rows = unit(np.eye(4, 8) + 0.1)
    assert not measure_loss(rows, np.full_like(rows, np.nan), rows).is_bearable


def test_the_order_counts_beside_the_least_cosine() -> None:
    """Pictures so alike that a small turn of each reverses their scores."""
    others = unit(np.eye(2, 8, k=1))
    turns = np.linspace(0, 0.04, 6)[:, None]
    before = unit(np.eye(1, 8) + turns * np.eye(1, 8, k=1))
    after = unit(np.eye(1, 8) + turns[::-1] * np.eye(1, 8, k=1))
    loss = measure_loss(before, after, others)
    assert loss.least_cosine > MIN_COSINE
    assert not loss.is_bearable
