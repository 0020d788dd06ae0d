"""Sets that callers send: what is taken, brought to unit length, and what is refused and where."""

import base64
from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.vectors import MAX_DIM, MAX_SET, unit_rows


def coded(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def fault(vectors) -> Any:
    with pytest.raises(InvalidFieldError) as caught:
        unit_rows(vectors)
    found: Any = caught.value.facts["errors"]
    assert len(found) == 1
    return found[0]


def test_numbers_and_base64_are_the_same_set():
    assert unit_rows([[3.0, 4.0], coded(3.0, 4.0)]).tolist() == [[0.6, 0.8], [0.6, 0.8]]


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-40, 1e40, 1e300, 1.7e308])
def test_no_length_overflows_or_vanishes(scale):
    unit = unit_rows([[scale, scale], [0.0, 1.0]])
    assert np.linalg.norm(unit, axis=1) == pytest.approx([1.0, 1.0])
    assert unit[0] == pytest.approx([0.5**0.5] * 2)


@pytest.mark.parametrize(
    ("vectors", "pointer", "detail"),
    [
        pytest.param([], "/embeddings", "1 to 4096", id="none"),
        pytest.param([[1.0]] * (MAX_SET + 1), "/embeddings", "1 to 4096", id="too many"),
        pytest.param([[1.0], []], "/embeddings/1", "1 to 1536 numbers", id="empty"),
        pytest.param([[1.0] * (MAX_DIM + 1)], "/embeddings/0", "1 to 1536 numbers", id="too long"),
        pytest.param([[1.0, 2.0], [1.0, 2.0], [1.0]], "/embeddings/2", "must have 2 numbers", id="of other length"),
        pytest.param([[1.0, 0.0], [0.0, 0.0]], "/embeddings/1", "must not be zero", id="zero"),
        pytest.param([coded(1.0, np.nan)], "/embeddings/0", "finite", id="not a number"),
        pytest.param([coded(1.0), coded(-np.inf)], "/embeddings/1", "finite", id="infinite"),
        pytest.param([coded(1.0)[:-1]], "/embeddings/0", "base64", id="broken base64"),
        pytest.param(["é"], "/embeddings/0", "base64", id="no base64"),
        pytest.param([base64.b64encode(b"abcde").decode()], "/embeddings/0", "whole float32", id="cut number"),
        pytest.param([""], "/embeddings/0", "1 to 1536 numbers", id="empty base64"),
        pytest.param([b"abcde"], "/embeddings/0", "whole float32", id="bytes of a cut number"),
        pytest.param([b""], "/embeddings/0", "1 to 1536 numbers", id="no bytes"),
    ],
)
def test_what_is_no_set_is_refused_where_it_is_wrong(vectors, pointer, detail):
    found = fault(vectors)
    assert found["pointer"] == pointer
    assert detail in found["detail"]
