"""TensorRT engines on a GPU: the same rows as torch in float32, whatever the batch, the launch and the company."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.graph import Graph
from tests.models.backends.other_weights import with_other_weights
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, IMAGE_PX, TEXT_GRAPH, VOCABULARY, unbuildable

Open = Callable[..., Engine]
LEAST_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "bf16": 0.999}


def draw(graph: Graph, num_rows: int) -> dict[str, Array]:
    rng = np.random.default_rng(num_rows)
    if graph.name == IMAGE_GRAPH.name:
        return {"pixels": rng.integers(0, 256, (num_rows, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)}
    return {"ids": rng.integers(0, VOCABULARY, (num_rows, 9)), "ends": rng.integers(0, 9, num_rows)}


def cosine(left: Array, right: Array) -> float:
    """The least of all rows, which have unit norm."""
    return float(np.sum(np.asarray(left, np.float64) * right, axis=1).min())


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu-engines")


@pytest.fixture(scope="session")
def open_engine(cache_dir: Path) -> Open:
    """An engine of TensorRT, certainly: where torch stands in, the test fails."""

    def make(graph: Graph, precision: Any, **choices: Any) -> Engine:
        engine = open_backend("tensorrt", precision=precision, tuning=Tuning(cache_dir, **choices)).compile(graph)
        assert engine.info.backend == "tensorrt"
        return engine

    return make


@pytest.fixture(scope="session")
def expected(cache_dir: Path) -> Callable[[Graph, int], Array]:
    """Rows of torch on the CPU, by graph and size of the batch; each computed once."""
    backend = open_backend("torch", precision="fp32", tuning=Tuning(cache_dir, device="cpu"))
    engines = {graph.name: backend.compile(graph) for graph in (IMAGE_GRAPH, TEXT_GRAPH)}
    known: dict[tuple[str, int], Array] = {}

    def compute(graph: Graph, num_rows: int) -> Array:
        key = (graph.name, num_rows)
        if key not in known:
            known[key] = engines[graph.name].run(draw(graph, num_rows))["rows"]
        return known[key]

    return compute


@pytest.mark.parametrize("precision", LEAST_COSINE)
@pytest.mark.parametrize("graph", [IMAGE_GRAPH, TEXT_GRAPH], ids=lambda graph: graph.name)
def test_every_batch_gives_the_rows_of_torch(
    open_engine: Open, expected: Callable[[Graph, int], Array], graph: Graph, precision: str
) -> None:
    engine = open_engine(graph, precision)
    for num_rows in (1, 2, 5, 33, 64):
        rows = engine.run(draw(graph, num_rows))["rows"]
        assert rows.shape == expected(graph, num_rows).shape
        assert cosine(rows, expected(graph, num_rows)) >= LEAST_COSINE[precision]


def test_a_recorded_launch_gives_what_a_plain_one_gives(open_engine: Open) -> None:
    recorded = open_engine(IMAGE_GRAPH, "fp16")
    plain = open_engine(IMAGE_GRAPH, "fp16", records_launches=False)
    for num_rows in (3, 4, 3, 5, 4, 6, 3, 64, 3, 4):  # comes again, grows the buffers in between
        batch = draw(IMAGE_GRAPH, num_rows)
        np.testing.assert_array_equal(recorded.run(batch)["rows"], plain.run(batch)["rows"])


def test_results_stay_when_further_batches_run(open_engine: Open) -> None:
    engine = open_engine(IMAGE_GRAPH, "fp16")
    first = engine.run(draw(IMAGE_GRAPH, 4))["rows"]
    kept = first.copy()
    for num_rows in (4, 64, 4):
        engine.run(draw(IMAGE_GRAPH, num_rows))
    np.testing.assert_array_equal(first, kept)


def test_a_batch_larger_than_the_engine_takes_is_run_in_parts(
    open_engine: Open, expected: Callable[[Graph, int], Array]
) -> None:
    engine = open_engine(IMAGE_GRAPH, "fp32", largest_sizes={"n": 8})
    assert cosine(engine.run(draw(IMAGE_GRAPH, 33))["rows"], expected(IMAGE_GRAPH, 33)) >= LEAST_COSINE["fp32"]


def test_engines_that_share_memory_do_not_disturb_each_other(
    open_engine: Open, expected: Callable[[Graph, int], Array]
) -> None:
    engines = {graph.name: (graph, open_engine(graph, "fp32")) for graph in (IMAGE_GRAPH, TEXT_GRAPH)}

    def check(name: str) -> float:
        graph, engine = engines[name]
        sizes = [1 + (7 * number) % 64 for number in range(100)]
        return min(cosine(engine.run(draw(graph, size))["rows"], expected(graph, size)) for size in sizes)

    for name in engines:
        check(name)  # alone first; torch's rows are known from then on
    with ThreadPoolExecutor(2) as threads:
        assert min(threads.map(check, engines)) >= LEAST_COSINE["fp32"]


@pytest.mark.parametrize("precision", LEAST_COSINE)
@pytest.mark.parametrize("graph", [IMAGE_GRAPH, TEXT_GRAPH], ids=lambda graph: graph.name)
def test_an_engine_without_weights_gives_the_rows_of_torch_for_all_weights_of_its_kind(
    open_engine: Open, cache_dir: Path, graph: Graph, precision: str
) -> None:
    told: list[tuple[str, str]] = []
    reference = open_backend("torch", precision="fp32", tuning=Tuning(cache_dir, device="cpu"))
    choices = {"strips_weights": True, "on_fallback": lambda *what: told.append(what)}
    keys = set()
    for seed in (21, 22):
        trained = with_other_weights(graph, seed)
        engine = open_engine(trained, precision, **choices)
        keys.add(engine.info.key)
        for num_rows in (1, 5, 64):
            rows = engine.run(draw(graph, num_rows))["rows"]
            assert (
                cosine(rows, reference.compile(trained).run(draw(graph, num_rows))["rows"]) >= LEAST_COSINE[precision]
            )
    assert len(keys) == 1  # one engine
    assert told == []


def test_a_cached_engine_is_loaded_without_building(open_engine: Open) -> None:
    open_engine(IMAGE_GRAPH, "fp16")
    assert open_engine(unbuildable(IMAGE_GRAPH), "fp16").run(draw(IMAGE_GRAPH, 2))["rows"].shape == (2, 32)
