from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from plumbline_models.backends.export.export import export_onnx
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from tests.models.backends.tiny_graphs import LIFT_GRAPH
from tests.models.evaluation import evaluate


class Module(nn.Module):
    """A module of one function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: Tensor) -> Any:
        return self.function(rows)


def graph_of(function: Callable[[Tensor], Any], *, low: int = 1, columns: int | Dim = 4) -> Graph:
    dim = Dim("n", low=low, typical=8, high=64)
    return Graph(
        name="probe",
        inputs=(TensorSpec("rows", "float32", (dim, columns)),),
        outputs=("result",),
        fingerprint="0" * 64,
        build=lambda: Module(function).eval(),
    )


def compute(content: bytes, rows: np.ndarray) -> np.ndarray:
    (result,) = evaluate(onnx.load_from_string(content), {"rows": rows})
    return np.asarray(result)


def test_names_are_the_graphs_and_the_batch_is_free() -> None:
    exported = onnx.load_from_string(export_onnx(LIFT_GRAPH).to_bytes())
    onnx.checker.check_model(exported)
    (given,), (result,) = exported.graph.input, exported.graph.output
    assert (given.name, result.name) == ("rows", "lifted")
    assert given.type.tensor_type.shape.dim[0].dim_param
    assert given.type.tensor_type.shape.dim[1].dim_value == 4


def test_a_saved_graph_has_its_weights_beside_it(tmp_path: Path) -> None:
    export_onnx(LIFT_GRAPH).save(tmp_path / "graph.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.onnx", "graph.onnx.data"]
    rows = np.ones((3, 4), np.float32)
    (result,) = evaluate(str(tmp_path / "graph.onnx"), {"rows": rows})
    expected = LIFT_GRAPH.build()(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(result, expected, atol=1e-6)  # float32, another order of adding


def test_weights_too_large_for_one_message_are_refused() -> None:
    exported = export_onnx(LIFT_GRAPH)
    assert exported.num_weight_bytes == 4 * (4 * 6 + 6)
    assert exported.to_bytes(max_weight_bytes=120)
    with pytest.raises(EngineError, match="do not fit into one ONNX message"):
        exported.to_bytes(max_weight_bytes=119)


def test_an_operator_without_onnx_form_is_named() -> None:
    with pytest.raises(EngineError, match=r"probe cannot be exported to ONNX: torch\.ops\.aten\.linalg_eig") as failure:
        export_onnx(graph_of(lambda rows: torch.linalg.eigvals(rows.reshape(-1, 2, 2)).abs()))
    assert failure.value.facts["node"] == "linalg_eig"
    assert failure.value.__cause__ is not None


def test_a_branch_on_the_data_is_explained() -> None:
    with pytest.raises(EngineError, match="data-dependent") as failure:
        export_onnx(graph_of(lambda rows: rows if rows.sum() > 0 else -rows))
    assert failure.value.facts["graph"] == "probe"


def test_a_wrong_number_of_outputs_is_refused() -> None:
    with pytest.raises(EngineError, match="gives 2 outputs, not result"):
        export_onnx(graph_of(lambda rows: (rows + 1, rows - 1)))


def test_one_name_for_two_dims_is_refused() -> None:
    with pytest.raises(EngineError, match="two dimensions called n"):
        export_onnx(graph_of(lambda rows: rows + 1, columns=Dim("n", 2, 4, 8)))


def test_a_relation_that_a_range_cannot_tell_is_inferred() -> None:
    pairs = export_onnx(graph_of(pair_up, low=4)).to_bytes()
    rows = np.arange(28, dtype=np.float32).reshape(7, 4)
    np.testing.assert_array_equal(compute(pairs, rows), pair_up(torch.from_numpy(rows)).numpy())


def pair_up(rows: Tensor) -> Tensor:
    """Sums of neighbours; an odd last row is left out."""
    num_pairs = rows.shape[0] // 2
    return rows[: num_pairs * 2].reshape(num_pairs, 2, 4).sum(1)


@pytest.mark.parametrize(
    ("function", "low", "sentence"),
    [
        pytest.param(lambda rows: rows * 2 if rows.shape[0] > 16 else rows, 1, "every n of 1 to 64", id="range"),
        pytest.param(lambda rows: rows * 2 if rows.shape[0] % 2 == 0 else rows, 4, "something else", id="parity"),
        pytest.param(lambda rows: rows.reshape(rows.shape[0] // 4, 4, 4), 4, "fails", id="multiples"),
        pytest.param(lambda rows: rows + torch.zeros(8, 4), 4, "cannot be exported", id="fixed"),
    ],
)
def test_a_module_that_does_not_serve_all_promised_sizes_is_refused(
    function: Callable[[Tensor], Tensor], low: int, sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence):
        export_onnx(graph_of(function, low=low))


def test_an_export_says_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    export_onnx(LIFT_GRAPH)
    captured = capfd.readouterr()
    assert (captured.out, captured.err, len(recwarn)) == ("", "", 0)
