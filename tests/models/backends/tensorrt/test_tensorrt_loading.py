"""Weights are bound to an engine only if it takes exactly these; what an engine says of itself is made up here."""

from typing import Any

import pytest
import torch

from plumbline_models.backends.tensorrt.library import open_library
from plumbline_models.backends.tensorrt.loading import TensorRtLoader, _check_names
from plumbline_models.core.errors import EngineError
from tests.models.backends.tiny_graphs import LIFT_GRAPH

LIBRARY = open_library("tensorrt_rtx")
FLOAT, HALF, BF16 = (getattr(LIBRARY.api.DataType, name) for name in ("FLOAT", "HALF", "BF16"))
WEIGHTS = {
    "weight": torch.zeros(6, 4),
    "bias": torch.zeros(6, dtype=torch.float16),
    "scale": torch.zeros(6, dtype=torch.bfloat16),
}
TAKEN = {"weight": ((6, 4), FLOAT), "bias": ((6,), HALF), "scale": ((6,), BF16)}


class Opened:
    """What a deserialised engine says of its inputs and outputs."""

    def __init__(self, **taken: tuple[tuple[int, ...], Any]) -> None:
        self._taken = {**taken, "rows": ((-1, 4), FLOAT), "lifted": ((-1, 6), FLOAT)}
        self.num_io_tensors = len(self._taken)

    def get_tensor_name(self, index: int) -> str:
        return list(self._taken)[index]

    def get_tensor_shape(self, name: str) -> Any:
        return LIBRARY.api.Dims(self._taken[name][0])

    def get_tensor_dtype(self, name: str) -> Any:
        return self._taken[name][1]


class Context:
    """Takes addresses down."""

    def __init__(self, *, accepts: bool = True) -> None:
        self._accepts = accepts
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self._accepts


@pytest.fixture
def loader() -> TensorRtLoader:
    return TensorRtLoader(LIBRARY, name="tensorrt-rtx")


def test_every_weight_is_bound_where_it_lies(loader: TensorRtLoader) -> None:
    context = Context()
    loader._bind(LIFT_GRAPH, Opened(**TAKEN), context=context, weights=WEIGHTS)
    assert context.addresses == {name: weight.data_ptr() for name, weight in WEIGHTS.items()}


@pytest.mark.parametrize(
    ("change", "accepts", "name"),
    [
        pytest.param({"weight": ((4, 6), FLOAT)}, True, "weight", id="shape"),
        pytest.param({"scale": ((6,), HALF)}, True, "scale", id="type of the same size"),
        pytest.param({}, False, "weight", id="refused"),
    ],
)
def test_a_weight_that_does_not_fit_is_named(
    loader: TensorRtLoader, change: dict[str, Any], accepts: bool, name: str
) -> None:
    opened = Opened(**{**TAKEN, **change})
    with pytest.raises(EngineError, match=f"does not take its weight {name}"):
        loader._bind(LIFT_GRAPH, opened, context=Context(accepts=accepts), weights=WEIGHTS)


def test_no_weight_may_be_missing_or_left_over() -> None:
    _check_names(Opened(**TAKEN), LIFT_GRAPH, WEIGHTS)
    fewer = {name: weight for name, weight in WEIGHTS.items() if name != "bias"}
    with pytest.raises(EngineError, match="lost an input"):
        _check_names(Opened(**TAKEN), LIFT_GRAPH, fewer)
    with pytest.raises(EngineError, match="lost an input"):
        _check_names(Opened(**TAKEN), LIFT_GRAPH, {**WEIGHTS, "more": torch.zeros(1)})
