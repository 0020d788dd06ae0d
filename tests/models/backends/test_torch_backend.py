from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plumbline_models.backends import Backend, Tuning, open_backend
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_models.backends.tuning import Precision
from plumbline_models.core.arrays import Array
from plumbline_models.core.errors import BackendUnavailableError, EngineError
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, LIFT_GRAPH, TEXT_GRAPH

Batch = dict[str, Array]
CPU = torch.device("cpu")


def test_it_runs_the_module_itself(torch_backend: Backend, draw_images: Callable[[int], Batch]) -> None:
    batch = draw_images(3)
    rows = torch_backend.compile(IMAGE_GRAPH).run(batch)["rows"]
    with torch.inference_mode():
        expected = IMAGE_GRAPH.build()(torch.from_numpy(batch["pixels"])).numpy()
    np.testing.assert_array_equal(rows, expected)


def test_nothing_is_compiled_so_there_is_no_key(torch_backend: Backend) -> None:
    info = torch_backend.compile(LIFT_GRAPH).info
    assert (info.backend, info.precision, info.key) == ("torch", "fp32", "")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_still_gives_float32_rows(precision: Precision, draw_images: Callable[[int], Batch]) -> None:
    batch = draw_images(4)
    rows = TorchBackend(CPU, precision=precision).compile(IMAGE_GRAPH).run(batch)["rows"]
    exact = TorchBackend(CPU, precision="fp32").compile(IMAGE_GRAPH).run(batch)["rows"]
    assert rows.dtype == np.float32
    assert np.abs(rows - exact).max() > 0
    assert np.sum(rows * exact, axis=1).min() > 0.999  # 8 bits of mantissa over one block


def test_what_exceeds_fp16_is_computed_in_bf16() -> None:
    graph = replace(LIFT_GRAPH, exceeds_fp16=True)
    expected: dict[Precision, str] = {"fp32": "fp32", "bf16": "bf16", "fp16": "bf16"}
    for precision, computed_in in expected.items():
        assert TorchBackend(CPU, precision=precision).compile(graph).info.precision == computed_in


def test_float_inputs_follow_the_precision() -> None:
    engine = TorchBackend(CPU, precision="bf16").compile(LIFT_GRAPH)
    lifted = engine.run({"rows": np.ones((2, 4), np.float32)})["lifted"]
    assert (lifted.dtype, lifted.shape) == (np.dtype(np.float32), (2, 6))


def test_results_do_not_share_memory_with_inputs_or_weights() -> None:
    graph = replace(LIFT_GRAPH, build=torch.nn.Identity)
    rows = np.ones((2, 4), np.float32)
    lifted = TorchBackend(CPU, precision="fp32").compile(graph).run({"rows": rows})["lifted"]
    assert not np.shares_memory(lifted, rows)


def test_read_only_inputs_are_taken_without_a_warning(torch_backend: Backend) -> None:
    rows = np.frombuffer(np.ones(8, np.float32).tobytes(), np.float32).reshape(2, 4)
    assert torch_backend.compile(LIFT_GRAPH).run({"rows": rows})["lifted"].shape == (2, 6)


def test_outputs_come_by_name(torch_backend: Backend, draw_texts: Callable[[int, int], Batch]) -> None:
    found = torch_backend.compile(TEXT_GRAPH).run(draw_texts(2, 5))
    assert {name: array.shape for name, array in found.items()} == {"rows": (2, 48), "sums": (2, 5)}


def test_wrong_batches_and_outputs_are_refused(torch_backend: Backend) -> None:
    with pytest.raises(EngineError, match="rows of tiny_lift is int64, not float32"):
        torch_backend.compile(LIFT_GRAPH).run({"rows": np.ones((2, 4), np.int64)})
    two_outputs = torch_backend.compile(replace(LIFT_GRAPH, outputs=("lifted", "more")))
    with pytest.raises(EngineError, match="gives 1 outputs, not lifted, more"):
        two_outputs.run({"rows": np.ones((2, 4), np.float32)})


def test_a_module_that_fails_is_an_engine_error(torch_backend: Backend) -> None:
    engine = torch_backend.compile(replace(LIFT_GRAPH, build=lambda: torch.nn.Linear(5, 5)))
    with pytest.raises(EngineError, match="tiny_lift failed on a batch") as failure:
        engine.run({"rows": np.ones((2, 4), np.float32)})
    assert isinstance(failure.value.__cause__, RuntimeError)


def test_the_number_of_threads_is_set() -> None:
    before = torch.get_num_threads()
    try:
        TorchBackend(CPU, precision="fp32", num_threads=1).compile(LIFT_GRAPH)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="no CUDA GPU"):
        open_backend("torch", precision="fp32", tuning=Tuning(tmp_path, device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_rows(tmp_path: Path, draw_images: Callable[[int], Batch]) -> None:
    batch = draw_images(4)
    backend = open_backend("torch", precision="fp32", tuning=Tuning(tmp_path, device="cuda"))
    exact = TorchBackend(CPU, precision="fp32").compile(IMAGE_GRAPH).run(batch)["rows"]
    rows = backend.compile(IMAGE_GRAPH).run(batch)["rows"]
    np.testing.assert_allclose(rows, exact, rtol=0, atol=1e-5)  # float32 in another order of adding
