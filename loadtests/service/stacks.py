"""Stacks that py-spy sampled in a gateway, by the stage of a request's path that they were in."""

import re
import shutil
import signal
import subprocess  # nosec B404  # our own programs
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from plumbline_models.core.protocols import EncoderKind

SAMPLES_A_SECOND = 100
READING, REPLY = "read requests: forms, JSON, protobuf", "write replies"
SERVER = "HTTP and gRPC servers, event loop"
ENGINES = {f"encode {kind}": f"{kind} engine" for kind in get_args(EncoderKind)}
"""What a thread does, by its name, where it does one thing."""
STAGE_OF = {
    "plumbline_serve/edge/rest/replies": REPLY,
    "plumbline_serve/edge/grpc/replies": REPLY,
    "plumbline_serve/edge/": READING,
    "plumbline_serve/requests/validation": "validation",
    "plumbline_serve/batching/": "queue and batches",
    "_from_base64": "decode",
    "images/decode": "decode",
    "Encoder.preprocess": "preprocess and tokenise",
    "plumbline_models/scorers/": "scorers",
    "plumbline_serve/": "pipeline: images and encodings by content",
}
"""What a frame shows, by the first of these that is part of it."""
_TASK = re.compile(r"thread \((\d+)\)")

Samples = Mapping[int, Mapping[str, int]]
"""Number of samples by thread and stage; threads by the system's number."""


@contextmanager
def sampling(pid: int) -> Iterator[dict[int, Counter[str]]]:
    """Sample a process; what is yielded is filled on leaving.

    Raises:
        RuntimeError: py-spy may not read the process, which takes root or the capability SYS_PTRACE.
    """
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    found: dict[int, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / "stacks.txt"
        options = ["--format", "raw", "--threads", "--nonblocking", "--rate", f"{SAMPLES_A_SECOND}"]
        command = [program, "record", "--pid", f"{pid}", *options, "--duration", "3600", "--output", str(raw)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as spy:  # nosec B603  # our own command
            try:
                yield found
            finally:
                spy.send_signal(signal.SIGINT)
                said, _ = spy.communicate()
        if not raw.exists():
            raise RuntimeError(f"py-spy could not sample the gateway: {said[-500:]}")
        found |= count(raw.read_text(encoding="utf-8"))


def count(raw: str) -> dict[int, Counter[str]]:
    """Samples of py-spy's raw format: frames from the outermost in, `;` between them, and a number of samples."""
    found: dict[int, Counter[str]] = {}
    for line in raw.splitlines():
        stack, _, num_samples = line.rpartition(" ")
        thread, *_ = frames = stack.split(";")
        if task := _TASK.match(thread):
            found.setdefault(int(task[1]), Counter())[stage_of(frames)] += int(num_samples)
    return found


def stage_of(frames: list[str]) -> str:
    """The thread's stage, or that of the innermost frame that has one: libraries work for whoever called them."""
    for name, stage in ENGINES.items():
        if name in frames[0]:
            return stage
    for frame in reversed(frames):
        for part, stage in STAGE_OF.items():
            if part in frame:
                return stage
    return SERVER
