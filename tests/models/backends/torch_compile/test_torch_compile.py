"""torch.compile on the CPU: the numbers of torch, and torch itself where it gives others or none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plumbline_models.backends import Backend, Tuning, open_backend
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import BackendUnavailableError, ConfigError
from tests.models.backends.tiny_graphs import LIFT_GRAPH, TEXT_GRAPH

LARGEST = 4


class Told:
    """Hears of engines that torch replaces."""

    def __init__(self) -> None:
        self.fallbacks: list[tuple[str, str]] = []

    def __call__(self, graph: str, backend: str) -> None:
        self.fallbacks.append((graph, backend))


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def backend(told: Told, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    tuning = Tuning(
        tmp_path_factory.mktemp("compiled"),
        num_threads=1,
        device="cpu",
        on_fallback=told,
        largest_sizes={"n": LARGEST},
    )
    return open_backend("torch-compile", precision="fp32", tuning=tuning)


@pytest.fixture(scope="module")
def engine(backend: Backend) -> Engine:
    """Takes most of this file's time: g++ compiles two forms of it."""
    return backend.compile(TEXT_GRAPH)


def test_a_compiled_graph_gives_what_torch_gives_for_every_size_without_compiling_again(
    engine: Engine, torch_backend: Backend, draw_texts: Callable[[int, int], dict[str, Array]]
) -> None:
    assert (engine.info.backend, engine.info.precision) == ("torch-compile", "fp32")
    reference = torch_backend.compile(TEXT_GRAPH)
    with torch.compiler.set_stance("fail_on_recompile"):
        for num_rows, length in [(1, 5), (2, 5), (3, 9), (LARGEST, 3), (2 * LARGEST + 1, 4)]:  # the last in parts
            batch = draw_texts(num_rows, length)
            found, expected = engine.run(batch), reference.run(batch)
            assert list(found) == ["rows", "sums"]
            for name, values in expected.items():
                # Float32 added up in another order.
                np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)


def test_results_are_the_callers(engine: Engine, draw_texts: Callable[[int, int], dict[str, Array]]) -> None:
    first = engine.run(draw_texts(3, 5))["rows"]
    kept = first.copy()
    engine.run(draw_texts(3, 5))
    np.testing.assert_array_equal(first, kept)


def test_an_engine_that_gives_other_numbers_is_refused_and_torch_takes_over(
    backend: Backend, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    def build_spoilt() -> torch.nn.Module:
        module = LIFT_GRAPH.build()
        module.weight.data[0] += 1
        return module

    assert backend.compile(LIFT_GRAPH).info.backend == "torch-compile"
    told.fallbacks.clear()
    # Under the name of the right weights, whose outputs are kept.
    spoilt = replace(LIFT_GRAPH, build=build_spoilt)
    assert backend.compile(spoilt).info.backend == "torch"
    assert told.fallbacks == [("tiny_lift", "torch-compile")]
    assert "does not give what torch gives" in caplog.text


def test_a_graph_that_does_not_compile_is_run_by_torch(backend: Backend, told: Told) -> None:
    class Untraceable(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return rows * 2

    told.fallbacks.clear()
    untraceable = replace(LIFT_GRAPH, fingerprint="other", build=lambda: Untraceable().eval())
    engine = backend.compile(untraceable)
    assert engine.info.backend == "torch"
    assert told.fallbacks == [("tiny_lift", "torch-compile")]
    np.testing.assert_array_equal(engine.run({"rows": np.ones((2, 4), np.float32)})["lifted"], np.full((2, 4), 2))


def test_it_has_no_int8_and_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice: Any = "int8"
    with pytest.raises(ConfigError, match="torch-compile backend does not compute in int8"):
        open_backend("torch-compile", precision=choice, tuning=Tuning(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailableError, match="needs a C compiler"):
        open_backend("torch-compile", precision="fp32", tuning=Tuning(tmp_path))
