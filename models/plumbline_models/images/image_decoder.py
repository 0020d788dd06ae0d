"""Who decodes an image: this process, or one beside it that a hostile file may crash or hang.

JPEG, PNG and WebP are decoded here: their decoders are those of every browser. A file of them that may take longer than
`MAX_HERE_S`, for a thread cannot be stopped, and all other formats are decoded in processes that start when they are
first needed, are bound in time and memory, and are replaced after a crash (docs/images.md has the measurements).
"""

import json
import logging
import os
import signal
import socket
import subprocess  # nosec B404  # our own programs
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import (
    CapacityError,
    ImageError,
    ImageTooLargeError,
    ImageUndecodableError,
    error_classes,
)
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.decode_cost import expected_decode_s
from plumbline_models.images.decoder_process import (
    CLOCK_FACTOR,
    PIXELS,
    READY,
    REPLY,
    REQUEST,
    ProcessLimits,
    arguments,
    environment,
)
from plumbline_models.images.headers import read_header

if TYPE_CHECKING:
    from plumbline_models.images.nvjpeg import NvJpegDecoder

log = logging.getLogger(__name__)

MAX_DECODE_S: Final = 10.0
"""By default; the slowest image within the default limits takes about a third of it."""
MAX_HERE_S: Final = 0.3
"""A file that may take more CPU time is decoded beside this process: a JPEG of about 60 MP, a PNG of 10 MP."""
PROGRAM: Final = ("-P", "-m", "plumbline_models.images.decoder_process")
"""What Python runs."""

MAX_WEBP_PIXELS: Final = 8 * 10**6
"""A WebP of more pixels is decoded beside this process: Pillow copies its pixels with the interpreter lock held, 0.1 s
for 49 MP, and takes 16 bytes for each."""
_START_S: Final = 30.0
_GRACE_S: Final = 1.0  # the process ends itself at the limit; one that was stopped cannot
_LEAST_WAIT_S: Final = 0.001  # 0 would mean not to wait at all
_MAX_ERROR_BYTES: Final = 65_536


class ImageDecoder:
    """Decodes image files; for any thread.

    Args:
        policy: How files are decoded, and which are too large.
        max_decode_s: Seconds of CPU time for an image that is not decoded in this process.
        program: Arguments of Python for that process.
        nvjpeg: Asked first for the pixels of JPEGs that would be decoded in this process; ended with this.
    """

    def __init__(
        self,
        policy: DecodePolicy,
        *,
        max_decode_s: float = MAX_DECODE_S,
        program: Sequence[str] = PROGRAM,
        nvjpeg: "NvJpegDecoder | None" = None,
    ) -> None:
        self.policy = policy
        self._nvjpeg = nvjpeg
        self._max_decode_s = max_decode_s
        self._program = program
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._end = weakref.finalize(self, _close_all, self._lock, self._idle, nvjpeg)

    def settle(self) -> None:
        """Wait until it is known who decodes JPEGs."""
        if self._nvjpeg is not None:
            self._nvjpeg.settle()

    def decode(self, data: bytes, *, exactly: bool = False) -> Pixels:
        """Decode one image file, as `images.decode` does.

        Args:
            data: The whole file.
            exactly: By CPUs, bit for bit as always.

        Raises:
            ImageTooLargeError: Also where it takes too long.
            ImageUndecodableError: Also where its decoder crashes.
            CapacityError: No process could be started to decode it in.
        """
        if len(data) > self.policy.max_bytes or _is_decoded_here(data, self.policy):
            nvjpeg = None if exactly else self._nvjpeg
            return decode(data, self.policy, read_first=None if nvjpeg is None else nvjpeg.decode)
        try:
            return self._decode_beside(data)
        except _CrashedError:
            log.warning("a decoder crashed; once more in a new process")
        try:
            return self._decode_beside(data)
        except _CrashedError as error:
            raise ImageUndecodableError("The image makes its decoder crash.", reason=str(error)) from None

    def close(self) -> None:
        """End the processes; the same happens when nobody holds the decoder any more, and when Python ends."""
        self._end()

    def _decode_beside(self, data: bytes) -> Pixels:
        process = self._take()
        try:
            pixels = process.decode(data, self.policy.max_pixels)
        except ImageError:
            if process.is_alive:
                self._give_back(process)
            raise
        except BaseException:
            process.close()
            raise
        self._give_back(process)
        return pixels

    def _take(self) -> "_Process":
        """One that waits for work, or a new one."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                process = self._idle.pop()
            if process.is_alive:
                return process
            process.close()
        try:
            return _Process(self.policy, self._max_decode_s, self._program)
        except (OSError, RuntimeError, _CrashedError) as error:  # a thread that cannot start is a RuntimeError
            log.exception("no process could be started to decode an image in")
            raise CapacityError("The image cannot be decoded right now.", reason=repr(error)) from error

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            if self._end.alive:
                self._idle.append(process)
                return
        process.close()


def _close_all(lock: threading.Lock, processes: "list[_Process]", nvjpeg: "NvJpegDecoder | None") -> None:
    if nvjpeg is not None:
        nvjpeg.close()
    with lock:
        for process in processes:
            process.close()
        processes.clear()


def _is_decoded_here(data: bytes, policy: DecodePolicy) -> bool:
    header = read_header(data)
    match header.container:
        case "png" if header.num_pixels > policy.max_pixels:
            return True  # refused at once: nothing else says its size
        case "webp" if header.num_pixels > MAX_WEBP_PIXELS:
            return False
    return expected_decode_s(data, header) <= MAX_HERE_S


class _CrashedError(Exception):
    """The process has ended, or speaks otherwise than ours does."""


class _Process:
    """The other process; for one thread at a time."""

    def __init__(self, policy: DecodePolicy, max_decode_s: float, program: Sequence[str]) -> None:
        limits = ProcessLimits(max_decode_s=max_decode_s, parent=os.getpid())
        self._max_decode_s = max_decode_s
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 - our own program  # nosec B603
                [sys.executable, *program, *arguments(policy, limits)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what libraries remark on hostile files
                env=environment(),
            )
        try:
            # One that has nothing to do ends by itself, and would stay in the system's table until somebody needed it.
            threading.Thread(target=self._child.wait, name="reap decoder", daemon=True).start()
            self._connection.settimeout(_START_S)
            has_started = self._connection.recv(len(READY)) == READY
        except BaseException:
            self.close()
            raise
        if not has_started:
            self.close()
            raise _CrashedError(f"It has ended at its start, with exit status {self._child.returncode}.")

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def decode(self, data: bytes, max_pixels: int) -> Pixels:
        """As `ImageDecoder.decode`.

        Raises:
            _CrashedError: It has ended before it had an answer.
        """
        most_s = CLOCK_FACTOR * self._max_decode_s + _GRACE_S
        until = time.monotonic() + most_s
        try:
            self._connection.settimeout(most_s)
            self._connection.sendall(REQUEST.pack(len(data)))
            self._connection.sendall(data)
            kind, height, width = REPLY.unpack(self._receive(REPLY.size, until))
            if kind == PIXELS and 0 < height * width <= max_pixels:
                return self._receive_pixels(height, width, until)
            said = json.loads(self._receive(min(height, _MAX_ERROR_BYTES), until))
        except TimeoutError:
            raise self._too_slow() from None
        except (OSError, EOFError, ValueError) as error:
            raise self._end(error) from None
        raise _error(said)

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._child.kill()
        self._child.wait()

    def _receive_pixels(self, height: int, width: int, until: float) -> Pixels:
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        self._receive_into(pixels.reshape(-1).data, until)
        return pixels

    def _receive(self, num_bytes: int, until: float) -> bytes:
        received = bytearray(num_bytes)
        self._receive_into(memoryview(received), until)
        return bytes(received)

    def _receive_into(self, rest: memoryview, until: float) -> None:
        while rest:
            self._connection.settimeout(max(_LEAST_WAIT_S, until - time.monotonic()))
            num_received = self._connection.recv_into(rest)
            if not num_received:
                raise EOFError("It has closed its end.")
            rest = rest[num_received:]

    def _end(self, error: Exception) -> Exception:
        """What its end means, which came before its answer."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE_S)
        if self._child.returncode in {-signal.SIGPROF, -signal.SIGALRM}:
            return self._too_slow()
        return _CrashedError(f"{error!r}, exit status {self._child.returncode}")

    def _too_slow(self) -> ImageTooLargeError:
        self.close()
        return ImageTooLargeError("The image takes longer than allowed to decode.", limit_s=self._max_decode_s)


def _error(said: Any) -> ImageError:
    """The error that the process tells of, if it is one that an image can have."""
    match said:
        case {"code": str(code), "detail": str(detail), "facts": dict(facts)}:
            kinds = {kind.code: kind for kind in error_classes(ImageError) if issubclass(kind, ImageError)}
            return kinds.get(code, ImageUndecodableError)(detail, **facts)
    return ImageUndecodableError("The image is damaged or incomplete.", reason=repr(said))
