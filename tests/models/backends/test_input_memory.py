"""Inputs in memory of every kind, on every backend that runs without a GPU; TensorRT copies all that it is given."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import EngineError
from tests.models.backends.tiny_graphs import BLEND_GRAPH, BLEND_PX

NUM_ROWS = 6


def frozen(array: Array) -> Array:
    """Read-only, as what comes from the cache of rows or from another process."""
    return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)


def strided(array: Array) -> Array:
    return np.repeat(array, 2, axis=0)[::2]


def turned(array: Array) -> Array:
    return np.ascontiguousarray(array[::-1])[::-1]


def by_columns(array: Array) -> Array:
    return np.asfortranarray(array)


def unaligned(array: Array) -> Array:
    return np.frombuffer(bytearray(b"!" + array.tobytes()), array.dtype, offset=1).reshape(array.shape)


@pytest.fixture(scope="module", params=["fake", "torch", "openvino"])
def engine(request: pytest.FixtureRequest, engine_dir: Path) -> Engine:
    return open_backend(request.param, precision="fp32", tuning=Tuning(engine_dir, num_threads=1)).compile(BLEND_GRAPH)


@pytest.fixture
def batch() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, NUM_ROWS, BLEND_PX)).astype(np.float32)
    return {"first": first, "second": second, "turns": rng.integers(0, 100, NUM_ROWS)}


@pytest.mark.parametrize("lay", [frozen, strided, turned, by_columns, unaligned])
def test_a_batch_gives_the_same_wherever_it_lies(
    engine: Engine, batch: dict[str, Array], lay: Callable[[Array], Array]
) -> None:
    expected = engine.run(batch)["blended"]
    laid = {name: lay(array) for name, array in batch.items()}
    for _ in range(4):
        np.testing.assert_array_equal(engine.run(laid)["blended"], expected)
    for name, array in laid.items():
        np.testing.assert_array_equal(array, batch[name])  # and is left as it was


@pytest.mark.parametrize(
    ("name", "dtype"), [("first", np.float64), ("second", np.float16), ("second", ">f4"), ("turns", np.int32)]
)
def test_an_input_of_another_type_is_refused(
    engine: Engine, batch: dict[str, Array], name: str, dtype: np.typing.DTypeLike
) -> None:
    with pytest.raises(EngineError, match=f"Input {name} of tiny_blend is"):
        engine.run({**batch, name: batch[name].astype(dtype)})
