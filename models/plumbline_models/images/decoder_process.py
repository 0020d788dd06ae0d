"""A process that decodes image files for another one, which outlives whatever a file does to it.

It is told the policy and the limits on its command line, and talks over the socket that is its standard input: a file
comes as its length and its bytes; pixels go back as their size and the bytes, an error as JSON. So whoever takes this
process over by a hostile file holds nothing but the next files: it has no secrets, and what it says is not unpickled.

It ends by itself when a file takes too long (by timers of the system, for a decoder that hangs runs no Python), when
its parent has gone, and when there was nothing to do for a while.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from PIL import AvifImagePlugin

import plumbline_models
from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageError
from plumbline_models.images.decode import DecodePolicy, decode

READY: Final = b"R"
REQUEST: Final = struct.Struct("<Q")
"""Bytes of the file."""
REPLY: Final = struct.Struct("<BQQ")
"""What it is, and two numbers: height and width of pixels, or the bytes of an error and 0."""
PIXELS: Final = 1
ERROR: Final = 2

CLOCK_FACTOR: Final = 6.0
"""How much longer it may take by the clock, where the CPUs are shared with others or a decoder waits for nothing."""

_BYTES_PER_PIXEL: Final = 40  # AVIF of 12 bits with alpha takes about 30: planes twice, RGBA twice, RGB
_SPARE_BYTES: Final = 256 * 2**20
_IDLE_S: Final = 300.0
_PR_SET_PDEATHSIG: Final = 1
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR")
"""Of the environment: what Python may need to start, and nothing secret."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """How far the process may go."""

    max_decode_s: float
    """Seconds of CPU time for one image."""
    parent: int
    """The process that it works for."""


def arguments(policy: DecodePolicy, limits: ProcessLimits) -> list[str]:
    """What `main` reads.

    Args:
        policy: How files are decoded.
        limits: Of the process.
    """
    return [json.dumps(asdict(policy)), json.dumps(asdict(limits))]


def environment(*also: str) -> dict[str, str]:
    """Python's own, our packages first; one arena of memory and no threads, as both count against the limit.

    Args:
        *also: Names of more variables that are passed on.
    """
    own = str(Path(plumbline_models.__file__).parents[1])
    passed_on = {name: os.environ[name] for name in (*_PASSED_ON, *also) if name in os.environ}
    paths = [own, *filter(None, passed_on.get("PYTHONPATH", "").split(os.pathsep))]
    alone = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**passed_on, **alone, "PYTHONPATH": os.pathsep.join(paths)}


def main() -> None:
    """Decode what comes until nothing comes any more."""
    policy, limits = DecodePolicy(**json.loads(sys.argv[1])), ProcessLimits(**json.loads(sys.argv[2]))
    end_with(limits.parent)
    _bound_memory(policy)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the service has as many of these processes as it has threads for images
    with socket.socket(fileno=0) as connection:
        connection.sendall(READY)
        connection.settimeout(_IDLE_S)
        while (data := _receive(connection)) is not None:
            _set_timers(limits.max_decode_s)
            reply = _answer(data, policy)
            _set_timers(0.0)
            for part in reply:
                connection.sendall(part)
            del data, reply


def _set_timers(max_decode_s: float) -> None:
    """Have the system end this process by then; 0 takes that back."""
    signal.setitimer(signal.ITIMER_PROF, max_decode_s)
    signal.setitimer(signal.ITIMER_REAL, CLOCK_FACTOR * max_decode_s)


def _answer(data: bytes, policy: DecodePolicy) -> tuple[bytes, bytes | memoryview]:
    try:
        pixels: Pixels = decode(data, policy)
    except ImageError as error:
        said = json.dumps({"code": error.code, "detail": error.detail, "facts": error.facts}, default=repr).encode()
        return REPLY.pack(ERROR, len(said), 0), said
    height, width = pixels.shape[:2]
    return REPLY.pack(PIXELS, height, width), pixels.reshape(-1).data


def _receive(connection: socket.socket) -> bytes | None:
    """The next file; None where the other side has gone, or asks for nothing for a long time."""
    try:
        (num_bytes,) = REQUEST.unpack(receive_all(connection, REQUEST.size))
        return bytes(receive_all(connection, num_bytes))
    except (EOFError, OSError):
        return None


def receive_all(connection: socket.socket, num_bytes: int) -> bytearray:
    """So many bytes of what comes.

    Args:
        connection: From where.
        num_bytes: How many.

    Raises:
        EOFError: It was closed before.
    """
    received = bytearray(num_bytes)
    rest = memoryview(received)
    while rest:
        num_received = connection.recv_into(rest)
        if not num_received:
            raise EOFError
        rest = rest[num_received:]
    return received


def end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, whatever it is doing then; Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def _bound_memory(policy: DecodePolicy) -> None:
    """Bound what the largest image may take beyond what this process has already; and write no file, nor a core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        own_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        most = own_bytes + policy.max_pixels * _BYTES_PER_PIXEL + 3 * policy.max_bytes + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
