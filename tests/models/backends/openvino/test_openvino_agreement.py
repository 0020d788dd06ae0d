"""Engines that give wrong numbers never serve: stored ones are made anew, and where that fails torch takes over."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.backends.openvino.backend import OpenVinoBackend
from plumbline_models.backends.openvino.runtime import cpu_capabilities, import_openvino, open_core
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.store.key import EngineKey
from plumbline_models.backends.store.manifest import read_facts, seal
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.engines import Backend, Engine
from tests.models.backends.tiny_graphs import LIFT_GRAPH

ROWS = {"rows": np.ones((2, 4), np.float32)}


class SpoilingCore:
    """OpenVINO's core, but every engine that it compiles computes with other weights.

    Args:
        num_right: How many it compiles as they are, before.
        factor: Of the other weights to the right ones.
    """

    def __init__(self, num_right: int = 0, factor: float = 1.01) -> None:
        self._core = open_core()
        self._num_right = num_right
        self._factor = np.float32(factor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def compile_model(self, model: Any, *arguments: Any) -> Any:
        self._num_right -= 1
        if self._num_right < 0:
            for node in model.get_ops():
                if node.get_type_name() == "Constant" and node.get_element_type().is_real():
                    other = import_openvino().op.Constant(np.asarray(node.data * self._factor))
                    for reader in node.output(0).get_target_inputs():
                        reader.replace_source_output(other.output(0))
        return self._core.compile_model(model, *arguments)


class Told(list[tuple[str, str]]):
    """What `on_fallback` was told."""

    def __call__(self, graph: str, backend: str) -> None:
        self.append((graph, backend))


@pytest.fixture
def told() -> Told:
    return Told()


def open_here(cache_dir: Path, told: Told, core: Any = None, precision: Precision = "fp32") -> Backend:
    tuning = Tuning(cache_dir, num_threads=1, on_fallback=told)
    if core is None:
        return open_backend("openvino", precision="fp32", tuning=tuning)
    return OpenVinoBackend(core, EngineStore(cache_dir), precision=precision, tuning=tuning)


def spoil_weights(entry: Path) -> None:
    """Change the weights of an entry, and its manifest with them."""
    weights = np.fromfile(entry / "graph.bin", np.float32)
    (weights * np.float32(1.01)).tofile(entry / "graph.bin")
    facts = read_facts(entry)
    (entry / "manifest.json").unlink()
    seal(entry, EngineKey(facts))


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_a_stored_engine_with_other_weights_is_made_anew(
    tmp_path: Path, engine_dir: Path, lift_engine: Engine, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    entry = tmp_path / "engines" / lift_engine.info.key
    shutil.copytree(engine_dir / "engines" / lift_engine.info.key, entry)
    spoil_weights(entry)
    engine = open_here(tmp_path, told).compile(LIFT_GRAPH)
    assert engine.info.backend == "openvino"
    np.testing.assert_array_equal(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"])
    assert told == [("tiny_lift", "openvino")]
    [error] = errors_of(caplog)
    assert error == (
        "The openvino engine of tiny_lift failed, it was made anew: "
        "The engine of tiny_lift does not give what torch gives for the same weights."
    )
    again = open_here(tmp_path, told).compile(LIFT_GRAPH)
    np.testing.assert_array_equal(again.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"])
    assert len(told) == 1


def test_torch_takes_over_where_the_compiler_gives_wrong_numbers(
    tmp_path: Path, lift_engine: Engine, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_here(tmp_path, told, SpoilingCore()).compile(LIFT_GRAPH)
    assert engine.info.backend == "torch"
    np.testing.assert_allclose(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"], rtol=1e-5)
    assert told == [("tiny_lift", "openvino")]
    [error] = errors_of(caplog)
    assert "torch runs it instead and is slower" in error
    assert list((tmp_path / "engines").glob("*/graph.xml")) == []


def test_what_bf16_is_too_coarse_for_torch_computes_in_float32(tmp_path: Path, lift_engine: Engine, told: Told) -> None:
    if "BF16" not in cpu_capabilities(open_core()):
        pytest.skip("this CPU does not compute in bf16")
    coarse = SpoilingCore(factor=1.2)  # further off than the bound of bf16
    engine = open_here(tmp_path, told, coarse, "bf16").compile(LIFT_GRAPH)
    assert (engine.info.backend, engine.info.precision) == ("torch", "fp32")
    np.testing.assert_allclose(engine.run(ROWS)["lifted"], lift_engine.run(ROWS)["lifted"], rtol=1e-5)


def test_an_engine_that_turns_wrong_where_it_is_read_back_serves_from_memory_or_not_at_all(
    tmp_path: Path, told: Told
) -> None:
    open_here(tmp_path, told).compile(LIFT_GRAPH)
    engine = open_here(tmp_path, told, SpoilingCore()).compile(LIFT_GRAPH)  # found, refused, built, refused
    assert engine.info.backend == "torch"
    assert told == [("tiny_lift", "openvino")]
