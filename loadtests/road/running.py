"""A service of its own for one measurement, and the CPU time that all of its processes take."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plumbline_serve.ray_environment import free_port

NOTHING_KEPT = {f"PLUMBLINE_CACHES__{kind}_BYTES": "0" for kind in ("IMAGE", "TEXT", "PAIR")}
"""Makes every row anew; where rows are kept, inputs that repeat measure the cache."""
STOP_TIMEOUT_S = 120
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A ready service on the loopback interface."""

    pid: int
    port: int
    grpc_port: int

    def cpu_s(self) -> float:
        """CPU seconds so far of the service: gateways, Ray's processes, HAProxy."""
        return sum(_cpu_ticks(pid) for pid in _descendants(self.pid)) / _TICKS_A_SECOND


@contextmanager
def running(config: str, environment: Mapping[str, str]) -> Iterator[Running]:
    """Start `plumbline serve` with a YAML configuration, wait until it is ready, stop it on leaving.

    Raises:
        RuntimeError: It did not become ready.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plumbline.yaml").write_text(config, encoding="utf-8")
        port, grpc_port = free_port(), free_port()
        command = [
            *(sys.executable, "-m", "plumbline_serve.cli", "serve", "--config", str(folder / "plumbline.yaml")),
            *("--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(grpc_port)),
        ]
        with (folder / "stderr.log").open("w") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment
            )
        try:
            if process.stdout is None or not process.stdout.readline().startswith("Ready"):
                raise RuntimeError((folder / "stderr.log").read_text(encoding="utf-8")[-2000:])
            yield Running(process.pid, port, grpc_port)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def _descendants(root: int) -> set[int]:
    """A process and all that it started, directly or not."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found = {root}
    while more := {pid for pid, stat in parents.items() if stat and int(stat[1]) in found} - found:
        found |= more
    return found


def _cpu_ticks(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold spaces; empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
