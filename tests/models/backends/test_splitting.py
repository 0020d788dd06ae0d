import logging
from collections.abc import Sequence

import numpy as np
import pytest

from plumbline_models.backends.inputs import rows_dimension
from plumbline_models.backends.splitting import BatchSplitter, OutOfDeviceMemoryError
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, Graph, TensorSpec

CAPTIONS, PAIRS = Dim("captions", 1, 2, 8), Dim("pairs", 1, 4, 64)


def make_graph(*, is_stated: bool = True) -> Graph:
    return Graph(
        name="pairs_of_captions",
        inputs=(TensorSpec("captions", "float32", (CAPTIONS, 2)), TensorSpec("rows", "int64", (PAIRS,))),
        outputs=("picked",),
        fingerprint="0",
        build=lambda: None,
        output_shapes=((PAIRS, 2),) if is_stated else (),
    )


class Machine:
    """Picks captions by row, as long as a run has no more pairs than fit."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.runs: list[int] = []

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        captions, rows = arrays
        self.runs.append(len(rows))
        if len(rows) > self.room:
            raise OutOfDeviceMemoryError
        return {"picked": captions[rows]}


CAPTION_ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
ROWS = np.array([2, 0, 1, 1, 2, 0, 0], dtype=np.int64)


@pytest.mark.parametrize(
    ("largest", "room", "runs"),
    [
        pytest.param(64, 64, [7], id="fits"),
        pytest.param(3, 64, [3, 3, 1], id="the engine takes three"),
        pytest.param(64, 4, [7, 3, 4], id="memory holds four"),
        pytest.param(64, 1, [7, 3, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1], id="memory holds one"),
    ],
)
def test_a_batch_run_in_parts_gives_what_it_gives_in_one(largest: int, room: int, runs: list[int]) -> None:
    machine = Machine(room)
    outputs = BatchSplitter(make_graph(), largest).run([CAPTION_ROWS, ROWS], machine.run)
    np.testing.assert_array_equal(outputs["picked"], CAPTION_ROWS[ROWS])
    assert machine.runs == runs


def test_halving_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    BatchSplitter(make_graph(), 64).run([CAPTION_ROWS, ROWS], Machine(4).run)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_row_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(EngineError, match="cannot be cut further"):
        BatchSplitter(make_graph(), 64).run([CAPTION_ROWS, ROWS], Machine(0).run)


def test_other_errors_are_not_mistaken_for_lack_of_memory() -> None:
    def fail(arrays: Sequence[Array]) -> dict[str, Array]:
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        BatchSplitter(make_graph(), 64).run([CAPTION_ROWS, ROWS], fail)


def test_rows_lie_along_what_the_outputs_begin_with() -> None:
    assert rows_dimension(make_graph()) is PAIRS
    assert rows_dimension(make_graph(is_stated=False)) is CAPTIONS


def test_what_is_counted_along_another_axis_too_is_a_length_and_never_cut() -> None:
    inputs = (TensorSpec("ids", "int64", (PAIRS,)), TensorSpec("positions", "int64", (3, PAIRS)))
    graph = Graph("prefix", inputs, ("states",), "0", build=lambda: None, output_shapes=((PAIRS, 2),))
    arrays = [np.zeros(7, np.int64), np.zeros((3, 7), np.int64)]
    runs: list[int] = []

    def run(parts: Sequence[Array]) -> dict[str, Array]:
        runs.append(len(parts[0]))
        return {"states": np.zeros((len(parts[0]), 2), np.float32)}

    def fail(parts: Sequence[Array]) -> dict[str, Array]:
        raise OutOfDeviceMemoryError

    splitter = BatchSplitter(graph, 4)
    assert splitter.run(arrays, run)["states"].shape == (7, 2)
    assert runs == [7]
    with pytest.raises(EngineError, match="no memory left for the graph prefix"):
        splitter.run(arrays, fail)
