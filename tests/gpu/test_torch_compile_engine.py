"""torch.compile on a GPU: the rows of torch in float32, recorded or not, whatever the thread."""

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
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, IMAGE_PX, TEXT_GRAPH, VOCABULARY

Open = Callable[..., Engine]
LARGEST = 8
LEAST_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "bf16": 0.999}


def draw(graph: Graph, num_rows: int) -> dict[str, Array]:
    rng = np.random.default_rng(num_rows)
    if graph.name == IMAGE_GRAPH.name:
        return {"pixels": rng.integers(0, 256, (num_rows, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)}
    return {"ids": rng.integers(0, VOCABULARY, (num_rows, 9)), "ends": rng.integers(0, 9, num_rows)}


@pytest.fixture(scope="session")
def open_engine(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """An engine of Inductor, certainly: where torch stands in, the test fails."""
    folder = tmp_path_factory.mktemp("gpu-compiled")

    def make(graph: Graph, precision: Any, **choices: Any) -> Engine:
        tuning = Tuning(folder, device="cuda", largest_sizes={"n": LARGEST}, **choices)
        engine = open_backend("torch-compile", precision=precision, tuning=tuning).compile(graph)
        assert engine.info.backend == "torch-compile"
        return engine

    return make


def exact(graph: Graph, num_rows: int, folder: Path) -> Array:
    tuning = Tuning(folder, device="cpu")
    return open_backend("torch", precision="fp32", tuning=tuning).compile(graph).run(draw(graph, num_rows))["rows"]


@pytest.mark.parametrize("precision", LEAST_COSINE)
@pytest.mark.parametrize("graph", [IMAGE_GRAPH, TEXT_GRAPH], ids=lambda graph: graph.name)
def test_every_batch_gives_the_rows_of_torch(open_engine: Open, tmp_path: Path, graph: Graph, precision: str) -> None:
    engine = open_engine(graph, precision)
    for num_rows in (1, 2, 5, LARGEST, 2 * LARGEST + 3):
        found, expected = engine.run(draw(graph, num_rows))["rows"], exact(graph, num_rows, tmp_path)
        assert found.shape == expected.shape
        assert np.sum(np.asarray(found, np.float64) * expected, axis=1).min() >= LEAST_COSINE[precision]


def test_a_recorded_launch_gives_what_a_plain_one_gives_in_every_thread(open_engine: Open) -> None:
    recorded = open_engine(IMAGE_GRAPH, "fp16")
    plain = open_engine(IMAGE_GRAPH, "fp16", records_launches=False)
    sizes = [3, 4, 6, 8, 3, 4, 6, 8]  # run as they are, or filled up to themselves
    expected = {size: plain.run(draw(IMAGE_GRAPH, size))["rows"] for size in sizes}
    with ThreadPoolExecutor(2) as threads:
        for size, rows in zip(
            sizes, threads.map(lambda size: recorded.run(draw(IMAGE_GRAPH, size))["rows"], sizes), strict=True
        ):
            np.testing.assert_array_equal(rows, expected[size])


def test_engines_that_share_memory_do_not_disturb_each_other(open_engine: Open) -> None:
    engines = {graph.name: (graph, open_engine(graph, "fp32")) for graph in (IMAGE_GRAPH, TEXT_GRAPH)}
    first = {name: engine.run(draw(graph, LARGEST))["rows"] for name, (graph, engine) in engines.items()}
    for name in [*engines, *reversed(engines), *engines]:
        graph, engine = engines[name]
        np.testing.assert_array_equal(engine.run(draw(graph, LARGEST))["rows"], first[name])
