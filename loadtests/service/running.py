"""A service of its own for one measurement, and the CPU time that all of its processes take."""

import os
import signal
import subprocess  # nosec B404  # our own programs
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from plumbline_serve.machine.ports import free_ports

NOTHING_KEPT = {f"PLUMBLINE_CACHES__{kind}_BYTES": "0" for kind in ("IMAGE", "TEXT", "PAIR")}
"""Makes every encoding anew; where encodings are kept, inputs that repeat measure the cache."""
TAKES_ALL = {
    "PLUMBLINE_LIMITS__MAX_WAIT_MS": "600000",
    "PLUMBLINE_LIMITS__MAX_CONNECTIONS_PER_ADDRESS": "0",
    "PLUMBLINE_LIMITS__MAX_NEW_CONNECTIONS_PER_ADDRESS": "0",
}
"""Refuses nothing that comes without a deadline, however long it waits: what is measured is how long that is. All load
comes from one address."""
START_TIMEOUT_S, STOP_TIMEOUT_S = 600, 120


@dataclass(frozen=True)
class Running:
    """A ready service on the loopback interface."""

    pid: int
    port: int
    grpc_port: int

    def cpu_s(self) -> float:
        """CPU seconds so far of the service: gateways, Ray's processes, HAProxy."""
        return sum(map(_cpu_s, processes(self.pid)))


def processes(pid: int) -> list[psutil.Process]:
    """A process and all that it started, directly or not."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def divide(num_gateways: int, num_streams: int = 1) -> dict[str, str]:
    """Settings for so many gateways, each with its share of the cores, and so many batches of an engine at a time."""
    num_threads = max(1, (os.cpu_count() or 1) // num_gateways)
    return {
        "PLUMBLINE_REPLICAS__NUM_GATEWAYS": str(num_gateways),
        "PLUMBLINE_REPLICAS__COMPUTE_THREADS": str(num_threads),
        "PLUMBLINE_REPLICAS__COMPUTE_STREAMS": str(num_streams),
    }


def exit_on_sigterm() -> None:
    """Have SIGTERM leave the program as an exception does, so that folders are removed and services stopped."""
    signal.signal(signal.SIGTERM, _leave)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for one measurement, which is gone at its end.

    From here on SIGTERM leaves the program as an exception does.
    """
    exit_on_sigterm()
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def running(config: str, environment: Mapping[str, str], *, bounds: Mapping[str, str] = TAKES_ALL) -> Iterator[Running]:
    """Start `plumbline serve` with a YAML configuration, wait until it is ready, stop it on leaving.

    Args:
        config: YAML.
        environment: Further variables.
        bounds: As for `started`.

    Raises:
        RuntimeError: It did not become ready.
    """
    with workplace() as folder:
        port, grpc_port = free_ports(2)
        process = started(folder, config, environment, ports=(port, grpc_port), bounds=bounds)
        with stopping(process):
            if not becomes_ready(process):
                raise RuntimeError((folder / "stderr.log").read_text(encoding="utf-8")[-2000:])
            yield Running(process.pid, port, grpc_port)


def started(
    folder: Path,
    config: str,
    environment: Mapping[str, str],
    *,
    ports: tuple[int, int],
    bounds: Mapping[str, str] = TAKES_ALL,
) -> "subprocess.Popen[str]":
    """Start `plumbline serve`, and do not wait.

    Args:
        folder: For its configuration and `stderr.log`.
        config: YAML.
        environment: Further variables.
        ports: Of REST and gRPC.
        bounds: Variables that say what is refused; empty where another version may not know ours.
    """
    (folder / "plumbline.yaml").write_text(config, encoding="utf-8")
    port, grpc_port = ports
    command = [
        *(sys.executable, "-m", "plumbline_serve.cli", "serve", "--config", str(folder / "plumbline.yaml")),
        *("--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(grpc_port)),
    ]
    settings = {**os.environ, **bounds, **environment}
    with (folder / "stderr.log").open("w") as log:
        return subprocess.Popen(  # nosec B603  # our own command
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=settings
        )


@contextmanager
def stopping(
    process: "subprocess.Popen[str] | subprocess.Popen[bytes]", *, timeout_s: float = STOP_TIMEOUT_S
) -> Iterator[None]:
    """End a process on leaving, by force where it does not end by itself."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()


def _leave(signal_number: int, _: FrameType | None) -> None:
    signal.signal(signal_number, signal.SIG_IGN)  # a second one must not cut the cleaning short
    raise SystemExit(128 + signal_number)


def becomes_ready(process: "subprocess.Popen[str]") -> bool:
    """Wait for the line that says so; a service that does not write it in time is ended, which ends the waiting."""
    if process.stdout is None:
        return False
    timer = threading.Timer(START_TIMEOUT_S, process.terminate)
    timer.start()
    try:
        return process.stdout.readline().startswith("Ready")
    finally:
        timer.cancel()


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
