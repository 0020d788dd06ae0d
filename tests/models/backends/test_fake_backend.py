import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from plumbline_models.backends import FakeBackend
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import EngineError
from tests.models.backends.tiny_graphs import BATCH, IMAGE_GRAPH, LIFT_GRAPH, TEXT_GRAPH, unbuildable

Batch = dict[str, Array]
GOLDEN = [0.847701, -0.210562, 0.486894]


def test_it_is_an_engine_that_builds_nothing(draw_images: Callable[[int], Batch]) -> None:
    engine = FakeBackend().compile(unbuildable(IMAGE_GRAPH))
    assert isinstance(engine, Engine)
    assert engine.info.backend == "fake"
    assert engine.run(draw_images(3))["rows"].dtype == np.float32


def test_rows_depend_on_their_own_input_alone(draw_images: Callable[[int], Batch]) -> None:
    engine = FakeBackend().compile(IMAGE_GRAPH)
    pixels = draw_images(5)["pixels"]
    rows = engine.run({"pixels": pixels})["rows"]
    shuffled = engine.run({"pixels": pixels[[3, 1]]})["rows"]
    np.testing.assert_array_equal(shuffled, rows[[3, 1]])
    assert len({row.tobytes() for row in rows}) == 5


def test_rows_have_unit_norm(draw_images: Callable[[int], Batch]) -> None:
    rows = FakeBackend().compile(IMAGE_GRAPH).run(draw_images(4))["rows"]
    assert rows.shape == (4, 32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)  # float32 rounding


def test_padding_changes_nothing() -> None:
    engine = FakeBackend().compile(TEXT_GRAPH)
    ids, ends = np.array([[7, 5, 9]]), np.array([2])
    padded = np.array([[7, 5, 9, 0, 0], [1, 2, 3, 4, 5]])
    short = engine.run({"ids": ids, "ends": ends})
    long = engine.run({"ids": padded, "ends": np.array([2, 4])})
    np.testing.assert_array_equal(long["rows"][0], short["rows"][0])
    assert long["sums"].shape == (2, 5)
    np.testing.assert_array_equal(long["sums"][0, :3], short["sums"][0])


def test_outputs_and_graphs_differ_for_the_same_input() -> None:
    batch = {"rows": np.ones((1, 4), np.float32)}
    two = replace(LIFT_GRAPH, outputs=("one", "other"))
    found = FakeBackend().compile(two).run(batch)
    again = FakeBackend().compile(replace(two, name="next")).run(batch)
    assert len({row.tobytes() for row in (*found.values(), *again.values())}) == 4


def test_numbers_are_the_same_in_every_process() -> None:
    lifted = FakeBackend({"lifted": 3}).compile(LIFT_GRAPH).run({"rows": np.ones((1, 4), np.float32)})["lifted"]
    np.testing.assert_allclose(lifted, [GOLDEN], atol=1e-6)  # six digits are written down


def test_widths_are_given_stated_or_64() -> None:
    batch = {"rows": np.ones((2, 4), np.float32)}
    stated = replace(LIFT_GRAPH, output_shapes=((BATCH, 7, 5),))
    assert FakeBackend().compile(LIFT_GRAPH).run(batch)["lifted"].shape == (2, 64)
    assert FakeBackend().compile(stated).run(batch)["lifted"].shape == (2, 7, 5)
    assert FakeBackend({"lifted": 9}).compile(stated).run(batch)["lifted"].shape == (2, 9)


@pytest.mark.parametrize("shape", [(BATCH,), (BATCH, 1)])
def test_single_numbers_lie_between_0_and_1(shape: tuple) -> None:
    graph = replace(LIFT_GRAPH, output_shapes=(shape,))
    rows = np.arange(200, dtype=np.float32).reshape(50, 4)
    lifted = FakeBackend().compile(graph).run({"rows": rows})["lifted"]
    assert lifted.shape == (50, *shape[1:])
    assert 0 <= lifted.min() < lifted.max() < 1


def test_wrong_batches_are_refused_as_by_a_real_engine() -> None:
    with pytest.raises(EngineError, match="rows of tiny_lift is float64, not float32"):
        FakeBackend().compile(LIFT_GRAPH).run({"rows": np.ones((2, 4))})


def test_a_hook_can_hold_a_batch_back() -> None:
    is_running, may_go = threading.Event(), threading.Event()

    def wait(graph: str, batch: object) -> None:
        is_running.set()
        assert may_go.wait(timeout=30)

    engine = FakeBackend(on_run=wait).compile(LIFT_GRAPH)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(engine.run, {"rows": np.ones((1, 4), np.float32)})
        assert is_running.wait(timeout=30)
        assert not pending.done()
        may_go.set()
        assert pending.result(timeout=30)["lifted"].shape == (1, 64)


def test_a_hook_can_fail_a_batch() -> None:
    def fail(graph: str, batch: object) -> None:
        raise EngineError(f"{graph} is out of order.")

    with pytest.raises(EngineError, match="tiny_lift is out of order"):
        FakeBackend(on_run=fail).compile(LIFT_GRAPH).run({"rows": np.ones((1, 4), np.float32)})
