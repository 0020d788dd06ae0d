"""The real service: `plumbline serve` in a process of its own, on real sockets."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plumbline_serve.ports import free_port

STOP_TIMEOUT_S = 90


@dataclass
class RunningService:
    process: subprocess.Popen[str]
    port: int
    grpc_port: int
    log: Path
    """What it writes to stderr."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def terminate(self) -> int:
        with self.process:  # closes its pipe
            self.process.send_signal(signal.SIGTERM)
            return self.process.wait(STOP_TIMEOUT_S)


def begin_service(
    folder: Path, config: str = "", ports: tuple[int, int] | None = None, **environment: str
) -> RunningService:
    """Start, and do not wait."""
    path = folder / "plumbline.yaml"
    path.write_text(config, encoding="utf-8")
    own = ports or (free_port(), free_port())
    service = RunningService(None, *own, folder / "stderr.log")  # type: ignore[arg-type]
    command = [
        *(sys.executable, "-m", "plumbline_serve.cli", "serve", "--config", str(path), "--host", "127.0.0.1"),
        *("--port", str(service.port), "--grpc-port", str(service.grpc_port)),
    ]
    with service.log.open("w") as log:
        service.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )
    return service


def start_service(folder: Path, config: str = "", **options: Any) -> RunningService:
    """Start and wait for the line that says it is ready."""
    service = begin_service(folder, config, **options)
    assert service.process.stdout is not None
    line = service.process.stdout.readline()
    assert line.startswith("Ready"), service.log.read_text(encoding="utf-8")[-4000:]
    return service


def processes_below(pid: int) -> dict[int, str]:
    """Command lines of what a process started, directly or not."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            names[int(entry.name)] = (
                (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            )
    found: dict[int, str] = {}
    wave = {pid}
    while wave := {each for each, parent in parents.items() if parent in wave}:
        found |= {each: names.get(each, "") for each in wave}
    return found


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
    """One service on the embedded encoders for all tests that do not stop it."""
    running = start_service(tmp_path_factory.mktemp("service"), PLUMBLINE_CACHE_DIR=engine_cache)
    yield running
    assert running.terminate() == 0


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A smooth coloured picture, different for every seed."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / 32
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.2, 2.0, (3, 3))]
    return Image.fromarray(((np.stack(waves, axis=-1) + 1) * 127.5).astype(np.uint8))


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


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()
