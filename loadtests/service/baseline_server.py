"""A server of `loadtests/baselines`, in a process of its own."""

import os
import subprocess  # nosec B404  # our own programs
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from loadtests.service.running import stopping
from plumbline_serve.machine.ports import free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "loadtests" / "baselines"
START_S, ANSWER_S = 180.0, 5.0


class BaselineError(RuntimeError):
    """A baseline ended, or was not ready in time."""


@contextmanager
def baseline_server(
    name: str, checkpoint: Path, *, ready_path: str, python: Path, start_s: float = START_S
) -> Iterator[str]:
    """Run a baseline's file, wait until it is ready, stop it on leaving.

    The file finds its port, the checkpoint and the threads it may use in PLUMBLINE_BASELINE_PORT, …_CHECKPOINT and
    …_THREADS. What it writes goes to a log, which stays only if it does not become ready.

    Args:
        python: The interpreter that has what the baseline imports.
        start_s: Seconds that it may take to become ready.

    Yields:
        Its address.

    Raises:
        BaselineError: It did not become ready; the message names the log and ends with its last lines.
    """
    port = free_port()
    given = {"PORT": port, "CHECKPOINT": checkpoint, "THREADS": os.cpu_count() or 1}
    environment = {f"PLUMBLINE_BASELINE_{key}": str(value) for key, value in given.items()}
    with tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log", delete=False) as out:
        log = Path(out.name)
        command = [str(python), "-m", f"loadtests.baselines.{name}"]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environment, cwd=ROOT)  # nosec B603  # our own command
    with stopping(process):
        url = f"http://127.0.0.1:{port}"
        if not _is_ready(url + ready_path, process, until=time.monotonic() + start_s):
            end = log.read_text(encoding="utf-8", errors="replace")[-1000:]
            raise BaselineError(f"{name} was not ready within {start_s:g} s. Its log, {log}, ends with:\n{end}")
        yield url
    log.unlink()


def _is_ready(url: str, process: "subprocess.Popen[bytes]", *, until: float) -> bool:
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S):  # noqa: S310 - our own  # nosec B310
                return True
        except (OSError, HTTPException):
            time.sleep(0.2)
    return False
