from collections.abc import Callable

import numpy as np
import pytest

from plumbline_models.backends.inputs import arrange_inputs
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, TensorSpec

BATCH, LENGTH = Dim("n", 1, 2, 4), Dim("l", 2, 3, 5)
SPECS = (TensorSpec("ids", "int64", (BATCH, LENGTH)), TensorSpec("ends", "int64", (BATCH,)))


def batch(n: int = 2, length: int = 3, *, num_ends: int | None = None) -> dict[str, Array]:
    return {"ends": np.zeros(num_ends or n, np.int64), "ids": np.zeros((n, length), np.int64)}


def test_arrays_come_in_the_order_of_the_graph_with_the_sizes_of_its_dims() -> None:
    inputs = batch()
    arrays, sizes = arrange_inputs("probe", SPECS, inputs)
    assert [array.shape for array in arrays] == [(2, 3), (2,)]
    assert sizes == {"n": 2, "l": 3}


def test_contiguous_arrays_are_not_copied() -> None:
    inputs = batch()
    arrays, _ = arrange_inputs("probe", SPECS, inputs)
    assert arrays[0] is inputs["ids"]


def test_strided_arrays_are_made_contiguous() -> None:
    ids = np.arange(12).reshape(3, 4)[:, ::2]
    arrays, _ = arrange_inputs("probe", SPECS, {"ids": ids, "ends": np.zeros(3, np.int64)})
    assert arrays[0].flags.c_contiguous
    assert arrays[0].tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda b: b.pop("ends"), "takes ids, ends, but was given ids", id="missing"),
        pytest.param(lambda b: b.update(extra=b["ids"]), "was given ends, ids, extra", id="too many"),
        pytest.param(lambda b: b.update(other=b.pop("ids")), "was given ends, other", id="another name"),
        pytest.param(lambda b: b.update(ids=b["ids"].astype(np.int32)), "ids of probe is int32, not int64", id="dtype"),
        pytest.param(lambda b: b.update(ids=[[0, 0]]), "ids of probe is list, not int64", id="no array"),
        pytest.param(lambda b: b.update(batch(5)), r"shape \[5, 3\], not \[n=1..4, l=2..5\]", id="too many rows"),
        pytest.param(lambda b: b.update(batch(0)), r"shape \[0, 3\]", id="no rows"),
        pytest.param(lambda b: b.update(batch(2, 6)), r"shape \[2, 6\]", id="too long"),
        pytest.param(lambda b: b.update(batch(2, num_ends=3)), r"ends of probe has shape \[3\]", id="unequal rows"),
        pytest.param(lambda b: b.update(ids=b["ends"]), r"ids of probe has shape \[2\]", id="rank"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_one_sentence(
    spoil: Callable[[dict[str, Array]], object], sentence: str
) -> None:
    inputs = batch()
    spoil(inputs)
    with pytest.raises(EngineError, match=sentence):
        arrange_inputs("probe", SPECS, inputs)
