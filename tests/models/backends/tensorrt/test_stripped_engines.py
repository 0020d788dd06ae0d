"""Engines without weights, built for real by tensorrt_rtx; what starts them here is a stand-in that computes."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from plumbline_models.backends import Tuning, open_compiler
from plumbline_models.backends.tensorrt.backend import TENSORRT_RTX, TensorRtBackend
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph
from tests.models.backends.other_weights import (
    EvaluatedEngine,
    EvaluatingLoader,
    FullEngine,
    swapped,
    with_a_nan,
    with_other_weights,
)
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, IMAGE_PX, unbuildable

TOWER, OTHER = (with_other_weights(IMAGE_GRAPH, seed) for seed in (11, 12))
BATCH = {"pixels": np.zeros((2, IMAGE_PX, IMAGE_PX, 3), np.uint8)}


def compiler(cache_dir: Path, **choices: Any) -> Any:
    return open_compiler("tensorrt-rtx", precision="fp32", tuning=Tuning(cache_dir, strips_weights=True, **choices))


@pytest.fixture(scope="session")
def stripped_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the engine of the tiny tower and two sets of weights; nothing may harm it."""
    folder = tmp_path_factory.mktemp("stripped")
    for graph in (TOWER, OTHER):
        compiler(folder).keep(graph)
    return folder


@pytest.fixture
def cache_dir(stripped_dir: Path, tmp_path: Path) -> Path:
    """A copy of it for those who do."""
    return Path(shutil.copytree(stripped_dir, tmp_path / "cache"))


def load(cache_dir: Path, graph: Graph, loader: EvaluatingLoader | None = None) -> Any:
    tuning = Tuning(cache_dir, strips_weights=True)
    backend = TensorRtBackend(
        TENSORRT_RTX,
        precision="fp32",
        tuning=tuning,
        find_devices=lambda: ("A GPU",),
        loader=loader or EvaluatingLoader(),
    )
    return backend.compile(graph)


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_other_weights_find_the_engine_of_the_first(stripped_dir: Path) -> None:
    first, other = (compiler(stripped_dir).keep(graph) for graph in (TOWER, OTHER))
    assert first.folder == other.folder
    assert first.weights_folder != other.weights_folder
    assert len(list((stripped_dir / "engines").glob("*/engine.plan"))) == 1


def test_weights_lie_beside_the_engine_and_not_in_it(stripped_dir: Path, tmp_path: Path) -> None:
    stripped = compiler(stripped_dir).keep(unbuildable(TOWER))
    inside = open_compiler("tensorrt-rtx", precision="fp32", tuning=Tuning(tmp_path)).keep(TOWER)
    assert (inside.weights_folder, inside.num_weight_bytes) == (None, 0)
    weights = load_file(stripped.weights_folder / "weights.safetensors")
    assert stripped.num_weight_bytes > sum(weight.nbytes for weight in weights.values())
    within, without = ((each.folder / "engine.plan").read_bytes() for each in (inside, stripped))
    samples = [weight.tobytes()[:32] for weight in weights.values()]
    assert sum(sample in within for sample in samples) >= len(samples) / 2  # the rest is laid out otherwise
    assert not any(sample in without for sample in samples)


def test_another_profile_is_built_from_the_graph_that_was_kept(cache_dir: Path) -> None:
    kept = compiler(cache_dir, largest_sizes={"n": 8}).keep(unbuildable(TOWER))
    assert not kept.was_found
    assert kept.weights_folder == compiler(cache_dir).keep(unbuildable(TOWER)).weights_folder


def test_shipped_weights_and_engines_are_used_without_building(stripped_dir: Path, tmp_path: Path) -> None:
    kept = compiler(tmp_path / "own", engines_dir=stripped_dir).keep(unbuildable(OTHER))
    assert kept.was_found
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("name", ["engine.plan", "weights.safetensors", "graph.onnx"])
def test_what_is_damaged_is_made_again(cache_dir: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    kept = compiler(cache_dir).keep(unbuildable(TOWER))
    file = next(each / name for each in (kept.folder, kept.weights_folder) if (each / name).exists())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again = compiler(cache_dir).keep(TOWER)
    assert f"{name} was altered" in caplog.text
    assert (again.folder, again.was_found) == (kept.folder, name != "engine.plan")
    assert file.read_bytes() != content


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="weights of tiny_image cannot be kept"):
        compiler(tmp_path / "file").keep(TOWER)


def test_an_engine_serves_after_it_was_compared_with_torch_once(
    cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = load(cache_dir, TOWER)
    assert isinstance(engine, EvaluatedEngine)
    again = load(cache_dir, unbuildable(TOWER))  # torch is not run a second time
    np.testing.assert_array_equal(engine.run(BATCH)["rows"], again.run(BATCH)["rows"])
    assert errors_of(caplog) == []


def test_other_weights_are_held_to_what_torch_makes_of_them(cache_dir: Path) -> None:
    load(cache_dir, TOWER)
    with pytest.raises(AssertionError, match="built again"):  # torch would be run
        load(cache_dir, unbuildable(OTHER))


@pytest.mark.parametrize("spoil", [swapped, with_a_nan])
def test_wrong_weights_never_serve(cache_dir: Path, caplog: pytest.LogCaptureFixture, spoil: Any) -> None:
    assert isinstance(load(cache_dir, TOWER, EvaluatingLoader(spoil=spoil)), FullEngine)
    [error] = errors_of(caplog)
    assert "one with its weights inside is built instead" in error
    assert error.endswith("The engine of tiny_image does not give what torch gives for the same weights.")
    # What torch made is kept: the next start finds the weights wrong again without it.
    assert isinstance(load(cache_dir, unbuildable(TOWER), EvaluatingLoader(spoil=spoil)), FullEngine)
    assert len(errors_of(caplog)) == 2


def test_references_that_are_damaged_are_made_again(cache_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(cache_dir, TOWER)
    [kept] = [file for file in (cache_dir / "engines").glob("*/references.safetensors") if is_alone(file)]
    kept.write_bytes(kept.read_bytes()[:-4])
    assert isinstance(load(cache_dir, TOWER), EvaluatedEngine)
    assert "references.safetensors has another size" in caplog.text
    assert errors_of(caplog) == []


def is_alone(file: Path) -> bool:
    """Whether nothing but its manifest lies beside a file."""
    return {each.name for each in file.parent.iterdir()} == {file.name, "manifest.json"}


def test_an_engine_with_wrong_weights_inside_is_replaced_by_torch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []
    wrong = replace(TOWER, build=OTHER.build)  # weights of another, under the key of these
    compiler = open_compiler("tensorrt-rtx", precision="fp32", tuning=Tuning(tmp_path))
    compiler.keep(wrong)
    tuning = Tuning(tmp_path, device="cpu", on_fallback=lambda graph, backend: told.append((graph, backend)))
    backend = TensorRtBackend(
        TENSORRT_RTX, precision="fp32", tuning=tuning, find_devices=lambda: ("A GPU",), loader=EvaluatingLoader()
    )
    engine = backend.compile(TOWER)
    assert engine.info.backend == "torch"
    [error] = errors_of(caplog)
    assert "torch runs it instead" in error
    assert told == [("tiny_image", "tensorrt-rtx")]


def test_a_plan_that_is_refused_is_built_anew_once(cache_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(load(cache_dir, TOWER, EvaluatingLoader(num_refused=1)), EvaluatedEngine)
    assert "TensorRT refuses it: another GPU" in caplog.text
    # The stored one, the new one as it was stored, and the new one in memory.
    assert isinstance(load(cache_dir, TOWER, EvaluatingLoader(num_refused=3)), FullEngine)
    [error] = errors_of(caplog)
    assert error.endswith("It is for another GPU.")
