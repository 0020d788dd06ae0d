"""Graphs and engines that are compiled once for the whole folder, since an export takes seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import Backend, Engine
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, IMAGE_PX, LIFT_GRAPH, TEXT_GRAPH, VOCABULARY

Batch = dict[str, Array]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Graphs this small only lose by threads that wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that fills as tests compile; nothing may harm it."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="session")
def openvino_backend(engine_dir: Path) -> Backend:
    return open_backend("openvino", precision="fp32", tuning=Tuning(engine_dir, num_threads=1))


@pytest.fixture(scope="session")
def torch_backend(engine_dir: Path) -> Backend:
    return open_backend("torch", precision="fp32", tuning=Tuning(engine_dir, num_threads=1))


@pytest.fixture(scope="session")
def image_engine(openvino_backend: Backend) -> Engine:
    return openvino_backend.compile(IMAGE_GRAPH)


@pytest.fixture(scope="session")
def text_engine(openvino_backend: Backend) -> Engine:
    return openvino_backend.compile(TEXT_GRAPH)


@pytest.fixture(scope="session")
def lift_engine(openvino_backend: Backend) -> Engine:
    return openvino_backend.compile(LIFT_GRAPH)


@pytest.fixture
def draw_images() -> Callable[[int], Batch]:
    rng = np.random.default_rng(0)
    return lambda n: {"pixels": rng.integers(0, 256, (n, IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)}


@pytest.fixture
def draw_texts() -> Callable[[int, int], Batch]:
    rng = np.random.default_rng(1)
    return lambda n, length: {
        "ids": rng.integers(0, VOCABULARY, (n, length)),
        "ends": rng.integers(0, length, (n,)),
    }
