"""The real service: `plumbline serve` in a process of its own, on real sockets."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from plumbline_serve.machine.ports import free_port
from tests.services import RunningService, begin_service, encoded, picture, processes_below, start_service


@pytest.fixture
def below() -> Callable[[int], dict[int, str]]:
    return processes_below


@pytest.fixture
def gateways_of() -> Callable[[int], set[int]]:
    """Process ids of a service's gateways."""
    return lambda pid: {each for each, name in processes_below(pid).items() if name.endswith(":Gateway")}


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory) -> str:
    """Engines of this session: the first service compiles them, the others find them."""
    return str(tmp_path_factory.mktemp("engines"))


@pytest.fixture
def start(tmp_path, engine_cache) -> Iterator[Callable[..., RunningService]]:
    """Start services of this test alone; whatever still runs at its end is stopped."""
    started: list[RunningService] = []

    def starter(config: str = "", *, is_awaited: bool = True, **options: Any) -> RunningService:
        begin = start_service if is_awaited else begin_service
        started.append(begin(tmp_path, config, PLUMBLINE_CACHE_DIR=engine_cache, **options))
        return started[-1]

    yield starter
    for running in started:
        if running.process.poll() is None:
            running.terminate()
        elif running.process.stdout is not None:
            running.process.stdout.close()


@pytest.fixture
def unused_port() -> Callable[[], int]:
    return free_port


@pytest.fixture(scope="session")
def service(tmp_path_factory, engine_cache) -> Iterator[RunningService]:
    """One service on the embedded encoders for all tests that do not stop it.

    A test that floods it from this machine's address would keep the tests after it out for a while. However slow the
    machine is, it refuses nothing for that.
    """
    environment = {
        "PLUMBLINE_CACHE_DIR": engine_cache,
        "PLUMBLINE_LIMITS__MAX_NEW_CONNECTIONS_PER_ADDRESS": "0",
        "PLUMBLINE_LIMITS__MAX_WAIT_MS": "120000",
    }
    running = start_service(tmp_path_factory.mktemp("service"), **environment)
    yield running
    assert (running.terminate(), running.printed) == (0, "")


@pytest.fixture(scope="session")
def jpeg() -> Callable[[int], bytes]:
    return lambda seed: encoded(picture(seed), "JPEG")


@pytest.fixture(scope="session")
def png_of() -> Callable[[int], bytes]:
    return lambda seed: encoded(picture(seed), "PNG")


@pytest.fixture(scope="session")
def large_png() -> bytes:
    """Of 1300 by 1300 pixels: 5 MB once it is decoded."""
    return encoded(picture(1, (1300, 1300)), "PNG")


@pytest.fixture(scope="session")
def pixels_of() -> Callable[[int], np.ndarray]:
    return lambda seed: np.asarray(picture(seed))
