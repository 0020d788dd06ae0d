"""The real service for tests: `plumbline serve` in a process of its own, and pictures to send it."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from plumbline_serve.machine.ports import free_ports
from plumbline_serve.machine.processes import command_line, descendants

PATIENT = {"timeout_ms": 300_000}
"""Of a request that has to be answered however slow the machine is: without, it is refused where it would wait long."""
LOG_TIMEOUT_S = 600
STOP_TIMEOUT_S = 300  # more than draining, Ray and what is left of them may take together on a busy machine


@dataclass
class RunningService:
    process: subprocess.Popen[str]
    port: int
    grpc_port: int
    log: Path
    """What it writes to stderr."""
    printed: str = ""
    """What it wrote to stdout after it was ready, known once it has stopped."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def reconfigure(self, config: str) -> None:
        """Have it read another configuration."""
        self.log.with_name("plumbline.yaml").write_text(config, encoding="utf-8")
        self.process.send_signal(signal.SIGHUP)

    def wait_until_logged(self, line: str, *, times: int = 1) -> None:
        """Wait, for minutes on a busy machine, until it has logged a line so often."""
        for _ in range(LOG_TIMEOUT_S * 10):
            if self.log.read_text(encoding="utf-8").count(line) >= times:
                return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text(encoding="utf-8")[-4000:])

    def terminate(self) -> int:
        with self.process:  # closes its pipe
            self.process.send_signal(signal.SIGTERM)
            status = self.process.wait(STOP_TIMEOUT_S)
            assert self.process.stdout is not None
            self.printed = self.process.stdout.read()
            return status


def begin_service(
    folder: Path,
    config: str = "",
    *,
    ports: tuple[int, int] | None = None,
    within: Sequence[str] = (),
    **environment: str,
) -> RunningService:
    """Start, and do not wait.

    Args:
        folder: For the configuration and the log.
        config: YAML.
        ports: Of REST and gRPC; None: free ones.
        within: A command that runs the one after it.
        environment: Further variables.
    """
    path = folder / "plumbline.yaml"
    path.write_text(config, encoding="utf-8")
    port, grpc_port = ports or free_ports(2)
    service = RunningService(None, port, grpc_port, folder / "stderr.log")  # type: ignore[arg-type]
    command = [
        *within,
        *(sys.executable, "-m", "plumbline_serve.cli", "serve", "--config", str(path), "--host", "127.0.0.1"),
        *("--port", str(service.port), "--grpc-port", str(service.grpc_port)),
    ]
    with service.log.open("w") as log:
        service.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | _own_store(folder, config) | environment,
            start_new_session=True,
        )
    return service


def _own_store(folder: Path, config: str) -> dict[str, str]:
    """What the user, or another test, has decided is not this service's."""
    return {} if "store:" in config else {"PLUMBLINE_STORE": f"sqlite:///{folder}/store.db"}


def start_service(folder: Path, config: str = "", **options: Any) -> RunningService:
    """Start and wait for the line that says it is ready."""
    service = begin_service(folder, config, **options)
    assert service.process.stdout is not None
    if not service.process.stdout.readline().startswith("Ready"):
        with service.process:
            service.process.terminate()
        raise AssertionError(service.log.read_text(encoding="utf-8")[-4000:])
    return service


def processes_below(pid: int) -> dict[int, str]:
    """Command lines of what a process started, directly or not."""
    return {each: command_line(each) for each in descendants(pid)}


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A smooth coloured picture, different for every seed."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / 32
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.2, 2.0, (3, 3))]
    return Image.fromarray(((np.stack(waves, axis=-1) + 1) * 127.5).astype(np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()
