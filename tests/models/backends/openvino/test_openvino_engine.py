import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from plumbline_models.backends import Backend, Tuning, open_backend
from plumbline_models.backends.openvino.conversion import convert
from plumbline_models.backends.openvino.runtime import cpu_capabilities, open_core
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Engine
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, LIFT_GRAPH, TEXT_GRAPH, TWICE_GRAPH, TWICE_PX

Batch = dict[str, Array]
TOLERANCE = 1e-5  # on unit-norm rows: float32 in another order of adding; measured at most 2e-7
SUM_TOLERANCE = 1e-4  # sums of 48 values of a size of a few; measured at most 4e-6


@pytest.mark.parametrize("num_rows", [1, 2, 7, 64])
def test_images_of_any_batch_match_torch(
    image_engine: Engine, torch_backend: Backend, draw_images: Callable[[int], Batch], num_rows: int
) -> None:
    batch = draw_images(num_rows)
    rows = image_engine.run(batch)["rows"]
    expected = torch_backend.compile(IMAGE_GRAPH).run(batch)["rows"]
    assert (rows.shape, rows.dtype) == ((num_rows, 32), np.dtype(np.float32))
    np.testing.assert_allclose(rows, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=TOLERANCE)


@pytest.mark.parametrize(("num_rows", "length"), [(1, 1), (1, 77), (3, 5), (64, 20), (5, 76)])
def test_texts_of_any_batch_and_length_match_torch(
    text_engine: Engine,
    torch_backend: Backend,
    draw_texts: Callable[[int, int], Batch],
    num_rows: int,
    length: int,
) -> None:
    batch = draw_texts(num_rows, length)
    found = text_engine.run(batch)
    expected = torch_backend.compile(TEXT_GRAPH).run(batch)
    assert found["sums"].shape == (num_rows, length)
    np.testing.assert_allclose(found["rows"], expected["rows"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found["sums"], expected["sums"], rtol=0, atol=SUM_TOLERANCE)


def test_equal_weights_are_read_both_ways(openvino_backend: Backend, torch_backend: Backend) -> None:
    rows = np.random.default_rng(4).standard_normal((3, TWICE_PX)).astype(np.float32)
    expected = torch_backend.compile(TWICE_GRAPH).run({"rows": rows})["returned"]
    for _ in ("as built", "as fetched from the cache"):
        found = openvino_backend.compile(TWICE_GRAPH).run({"rows": rows})["returned"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=SUM_TOLERANCE)


def test_a_row_hardly_depends_on_its_batch(image_engine: Engine, draw_images: Callable[[int], Batch]) -> None:
    pixels = draw_images(16)["pixels"]
    together = image_engine.run({"pixels": pixels})["rows"]
    alone = np.concatenate([image_engine.run({"pixels": pixels[i : i + 1]})["rows"] for i in range(16)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)  # other kernels for other sizes; measured 0


@pytest.mark.parametrize("num_callers", [2, 5])
def test_callers_at_once_get_the_rows_of_their_own_batches(
    engine_dir: Path, image_engine: Engine, draw_images: Callable[[int], Batch], num_callers: int
) -> None:
    """With two streams; further callers wait for one of them."""
    tuning = Tuning(engine_dir, num_threads=2, num_streams=2)
    engine = open_backend("openvino", precision="fp32", tuning=tuning).compile(IMAGE_GRAPH)
    assert engine.info.num_streams == 2
    batches = [draw_images(number % 3 + 1) for number in range(60)]
    with ThreadPoolExecutor(num_callers) as callers:
        found = list(callers.map(engine.run, batches))
    for batch, outputs in zip(batches, found, strict=True):
        np.testing.assert_allclose(outputs["rows"], image_engine.run(batch)["rows"], rtol=0, atol=1e-6)


def test_results_belong_to_the_caller(image_engine: Engine, draw_images: Callable[[int], Batch]) -> None:
    first = image_engine.run(draw_images(4))["rows"]
    kept = first.copy()
    image_engine.run(draw_images(4))
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable
    assert first.flags.owndata


def test_read_only_and_strided_inputs_are_taken(image_engine: Engine, draw_images: Callable[[int], Batch]) -> None:
    pixels = draw_images(6)["pixels"]
    expected = image_engine.run({"pixels": pixels[::2].copy()})["rows"]
    read_only = np.frombuffer(pixels[::2].tobytes(), np.uint8).reshape(3, *pixels.shape[1:])
    np.testing.assert_array_equal(image_engine.run({"pixels": pixels[::2]})["rows"], expected)
    np.testing.assert_array_equal(image_engine.run({"pixels": read_only})["rows"], expected)


def test_wrong_batches_are_refused_before_the_runtime(
    image_engine: Engine, draw_images: Callable[[int], Batch]
) -> None:
    pixels = draw_images(1)["pixels"]
    with pytest.raises(EngineError, match="Input pixels of tiny_image is float32, not uint8"):
        image_engine.run({"pixels": pixels.astype(np.float32)})
    with pytest.raises(EngineError, match=r"shape \[65, 32, 32, 3\], not \[n=1..64, 32, 32, 3\]"):
        image_engine.run({"pixels": np.repeat(pixels, 65, axis=0)})


def test_the_engine_says_what_it_is(image_engine: Engine, openvino_backend: Backend) -> None:
    info = image_engine.info
    assert (info.graph, info.backend, info.precision, info.device) == ("tiny_image", "openvino", "fp32", "cpu")
    assert len(info.key) == 64
    assert (openvino_backend.name, openvino_backend.precision) == ("openvino", "fp32")


@pytest.mark.parametrize("is_writable", [True, False])
def test_a_graph_is_the_same_through_a_folder_and_through_memory(
    tmp_path: Path, lift_engine: Engine, is_writable: bool
) -> None:
    core = open_core()
    scratch = tmp_path if is_writable else tmp_path / "missing"
    compiled = core.compile_model(
        convert(core, LIFT_GRAPH, scratch=scratch).model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert any(tmp_path.iterdir()) is is_writable
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(compiled([rows])[0], lift_engine.run({"rows": rows})["lifted"])


def test_fp16_on_a_cpu_is_a_mistake_in_the_configuration(engine_dir: Path) -> None:
    with pytest.raises(ConfigError, match="fp32, bf16 or int8 on a CPU, not in fp16"):
        open_backend("openvino", precision="fp16", tuning=Tuning(engine_dir))


def test_a_gpu_is_not_for_this_backend(engine_dir: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="runs on the CPU"):
        open_backend("openvino", precision="auto", tuning=Tuning(engine_dir, device="cuda"))


HAS_BF16 = "BF16" in cpu_capabilities(open_core())


@pytest.mark.skipif(HAS_BF16, reason="this CPU computes in bf16")
def test_bf16_on_a_cpu_without_it_is_refused(engine_dir: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="does not compute in bf16; set precision to fp32 or auto"):
        open_backend("openvino", precision="bf16", tuning=Tuning(engine_dir))


@pytest.mark.skipif(not HAS_BF16, reason="this CPU does not compute in bf16")
def test_bf16_keeps_the_direction_of_rows(
    engine_dir: Path, image_engine: Engine, draw_images: Callable[[int], Batch]
) -> None:
    backend = open_backend("openvino", precision="bf16", tuning=Tuning(engine_dir, num_threads=1))
    batch = draw_images(8)
    cosines = np.sum(backend.compile(IMAGE_GRAPH).run(batch)["rows"] * image_engine.run(batch)["rows"], axis=1)
    assert cosines.min() > 0.999  # 8 bits of mantissa over one block


def test_auto_is_bf16_where_the_cpu_has_it_and_else_fp32(engine_dir: Path) -> None:
    backend = open_backend("openvino", precision="auto", tuning=Tuning(engine_dir))
    assert backend.precision == ("bf16" if HAS_BF16 else "fp32")


@pytest.mark.parametrize("prefer", ["latency", "throughput"])
def test_preferences_change_no_number_and_no_key(
    engine_dir: Path, lift_engine: Engine, prefer: Literal["latency", "throughput"]
) -> None:
    backend = open_backend("openvino", precision="fp32", tuning=Tuning(engine_dir, num_threads=2, prefer=prefer))
    engine = backend.compile(LIFT_GRAPH)
    rows = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(engine.run({"rows": rows})["lifted"], lift_engine.run({"rows": rows})["lifted"])
    assert engine.info.key == lift_engine.info.key


def test_a_graph_that_does_not_export_is_named(openvino_backend: Backend) -> None:
    broken = replace(LIFT_GRAPH, name="broken", outputs=("lifted", "more"))
    with pytest.raises(EngineError, match="The graph broken gives 1 outputs, not lifted, more"):
        openvino_backend.compile(broken)


def test_constants_are_first_read_by_one_thread_before_there_are_more() -> None:
    script = (
        "import threading, numpy as np\n"
        "from plumbline_models.backends.openvino.runtime import import_openvino\n"
        "barrier, read = threading.Barrier(8), []\n"
        "def look():\n"
        "    barrier.wait()\n"
        "    read.append(float(import_openvino().op.Constant(np.ones(4, np.float32)).data.sum()))\n"
        "threads = [threading.Thread(target=look, daemon=True) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(read)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == str([4.0] * 8)
