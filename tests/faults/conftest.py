"""Services that tests break: on the embedded CLIP and QualiCLIP, which load in a second."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.services import RunningService, begin_service, start_service

CONFIG = "scorers: {clipscore: {}, qualiclip: {}}\n"


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory) -> str:
    """Engines of this session: the first service compiles them, the others find them."""
    return str(tmp_path_factory.mktemp("engines"))


@pytest.fixture
def start(tmp_path, engine_cache) -> Iterator[Callable[..., RunningService]]:
    """Start services of this test alone; whatever still runs at its end is stopped."""
    started: list[RunningService] = []

    def starter(config: str = CONFIG, *, is_awaited: bool = True, **options: Any) -> RunningService:
        begin = start_service if is_awaited else begin_service
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(begin(folder, config, **{"PLUMBLINE_CACHE_DIR": engine_cache, **options}))
        return started[-1]

    yield starter
    for running in started:
        if running.process.poll() is None:
            running.terminate()
        elif running.process.stdout is not None:
            running.process.stdout.close()


@pytest.fixture(scope="module")
def fused(tmp_path_factory, engine_cache) -> Iterator[RunningService]:
    """One service for all faults of a module that heal."""
    running = start_service(tmp_path_factory.mktemp("fused"), CONFIG, PLUMBLINE_CACHE_DIR=engine_cache)
    yield running
    assert running.terminate() == 0


@pytest.fixture(scope="module")
def split(tmp_path_factory, engine_cache) -> Iterator[RunningService]:
    """The same with encoders in a process of their own."""
    config = f"{CONFIG}replicas: {{layout: split}}\n"
    running = start_service(tmp_path_factory.mktemp("split"), config, PLUMBLINE_CACHE_DIR=engine_cache)
    yield running
    assert running.terminate() == 0
