"""Hands JPEGs to nvJPEG's process in batches; whatever it does not decode is for the CPUs.

While a batch is decoded the next one gathers. The process is compared with libjpeg-turbo before it is given anything,
and is started and compared anew after it has crashed, hung, or decoded nothing for a while, as one whose CUDA context
is broken does.
"""

import importlib.util
import logging
import os
import socket
import subprocess  # nosec B404  # our own program
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ConfigError
from plumbline_models.images.decoder_process import environment, receive_all
from plumbline_models.images.nvjpeg.agreement import find_disagreement, is_for_nvjpeg
from plumbline_models.images.nvjpeg.process import (
    COUNT,
    FILE,
    MAX_BATCH_PIXELS,
    OPTIONS,
    READY,
    SHARED_BYTES,
    CodecOptions,
    JpegFile,
    arguments,
    places,
    share,
)

log = logging.getLogger(__name__)

PROGRAM: Final = ("-P", "-m", "plumbline_models.images.nvjpeg.process")
"""What Python runs."""
MAX_BATCH: Final = 32
FIRST_WAIT_S: Final = 10.0
"""Before the process is started anew; twice as long each time that it breaks before it is of use."""
_MAX_WAIT_S: Final = 600.0
_START_S: Final = 60.0
_BATCH_S: Final = 5.0
_MAX_REASON_BYTES: Final = 4096
_MAX_REFUSED: Final = 64
"""Files in a row that are not decoded. Files that only the CPUs decode come, but not so many at once."""
_PASSED_ON: Final = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_MPS_PIPE_DIRECTORY",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)


class _UnusableError(Exception):
    """It will never be of use here."""


@dataclass(frozen=True, slots=True)
class _Job:
    file: JpegFile
    pixels: Future[Pixels | None] = field(default_factory=Future)


class NvJpegDecoder:
    """Decodes JPEGs on a GPU; for any thread.

    Args:
        device: Of CUDA, among those that this process sees; None: no GPU, the same by nvImageCodec on the CPU.
        on_failure: Told each time that it falls out of use, from a thread of its own.
        options: Of nvImageCodec.
        program: Arguments of Python for the process.
        first_wait_s: As `FIRST_WAIT_S`.

    Raises:
        ConfigError: nvImageCodec is not installed.
    """

    def __init__(
        self,
        *,
        device: int | None = 0,
        on_failure: Callable[[], None] | None = None,
        options: str = OPTIONS,
        program: Sequence[str] = PROGRAM,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        if not _is_installed():
            raise ConfigError("images.jpeg_decoder: nvjpeg needs nvImageCodec: pip install 'plumbline-serve[gpu]'.")
        self._program, self._device, self._options = program, device, options
        self._on_failure = on_failure
        self._wait_s = self._first_wait_s = first_wait_s
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._is_ready = self._is_closed = False
        self._is_settled, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvjpeg", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether it decodes."""
        return self._is_ready

    def settle(self) -> bool:
        """Wait until it is known whether it is of use.

        Returns:
            Whether it decodes.
        """
        self._is_settled.wait(2 * _START_S)
        return self._is_ready

    def decode(self, data: bytes, header: JpegImageFile) -> Pixels | None:
        """Decode a JPEG, as stored.

        Args:
            data: The file, whose segments were checked.
            header: Pillow's reading of its header; its size has been compared with the limits.

        Returns:
            `[H, W, 3]`; None where the file is for the CPUs, or the GPU fails.
        """
        if not self._is_ready or not is_for_nvjpeg(data, header):
            return None
        job = _Job(JpegFile(data, header.height, header.width))
        with self._changed:
            if not self._is_ready:
                return None
            self._jobs.append(job)
            self._changed.notify()
        return job.pixels.result()

    def close(self) -> None:
        """End the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._closing.set()
        self._thread.join(_BATCH_S)

    def _run(self) -> None:
        while not self._is_closed:
            try:
                with _Process(self._program, self._device, self._options) as process:
                    self._serve(process)
            except _UnusableError as error:
                self._report("nvJPEG is not used, CPUs decode: %s.", error)
                break
            except (OSError, EOFError, MemoryError, RuntimeError, ValueError) as error:
                self._report("nvJPEG's process broke, CPUs decode until it is started anew: %r", error)
            finally:
                self._let_go()
            self._closing.wait(self._wait_s)
            self._wait_s = min(2 * self._wait_s, _MAX_WAIT_S)

    def _serve(self, process: "_Process") -> None:
        """Decode until this is closed; raises when the process breaks."""
        process.await_start()
        if (wrong := find_disagreement(process.decode)) is not None:
            raise _UnusableError(wrong)
        self._is_ready = True
        self._is_settled.set()
        log.info("nvJPEG decodes JPEGs: its pixels agree with the CPU's")
        num_refused = 0
        while batch := self._next_batch():
            try:
                decoded = process.decode([job.file for job in batch])
            except BaseException:
                _answer(batch, [None] * len(batch))
                raise
            _answer(batch, decoded)
            num_refused = num_refused + len(batch) if all(pixels is None for pixels in decoded) else 0
            if num_refused >= _MAX_REFUSED:
                raise ValueError(f"It has decoded none of {num_refused} files.")
            self._wait_s = self._first_wait_s if not num_refused else self._wait_s

    def _next_batch(self) -> list[_Job]:
        """What waits, as far as it may be decoded together; nothing once this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            batch: list[_Job] = []
            num_pixels = 0
            while self._jobs and not self._is_closed and len(batch) < MAX_BATCH:
                file = self._jobs[0].file
                num_pixels += file.height * file.width
                if num_pixels > MAX_BATCH_PIXELS:
                    break
                batch.append(self._jobs.popleft())
            return batch

    def _report(self, sentence: str, error: Exception) -> None:
        log.error(sentence, error)
        if self._on_failure is not None:
            self._on_failure()

    def _let_go(self) -> None:
        with self._changed:
            self._is_ready = False
            waiting, self._jobs = list(self._jobs), deque()
        self._is_settled.set()
        _answer(waiting, [None] * len(waiting))


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("nvidia.nvimgcodec") is not None
    except ModuleNotFoundError:
        return False


def _answer(jobs: Sequence[_Job], decoded: Sequence[Pixels | None]) -> None:
    for job, pixels in zip(jobs, decoded, strict=True):
        job.pixels.set_result(pixels)


class _Process:
    """The other process; for one thread, and ended at the end of its block."""

    def __init__(self, program: Sequence[str], device: int | None, options: str) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs, os.fdopen(os.memfd_create("nvjpeg pixels"), "r+b", buffering=0) as memory:
            memory.truncate(SHARED_BYTES)
            self._shared = share(memory.fileno())
            codec = CodecOptions(device, parent=os.getpid(), shared=memory.fileno(), options=options)
            self._child = subprocess.Popen(  # noqa: S603 - our own program  # nosec B603
                [sys.executable, *program, *arguments(codec)],
                stdin=theirs.fileno(),
                pass_fds=[memory.fileno()],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what the library remarks on hostile files
                env=environment(*_PASSED_ON),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._child.kill()
        self._child.wait()

    def await_start(self) -> None:
        """Wait until it decodes.

        Raises:
            _UnusableError: It cannot.
            OSError: It takes too long.
            EOFError: It has ended.
        """
        self._connection.settimeout(_START_S)
        said = self._connection.recv(_MAX_REASON_BYTES)
        if not said:
            raise EOFError("It has ended at its start.")
        if said != READY:
            raise _UnusableError(said.decode(errors="replace"))

    def decode(self, files: Sequence[JpegFile]) -> list[Pixels | None]:
        """Decode a batch; None in the place of what it does not decode.

        Raises:
            OSError: It has ended, or takes too long.
            EOFError: It has ended.
        """
        self._connection.settimeout(_BATCH_S)
        self._connection.sendall(COUNT.pack(len(files)))
        self._connection.sendall(b"".join(FILE.pack(len(file.data), file.height, file.width) for file in files))
        for file in files:
            self._connection.sendall(file.data)
        are_decoded = receive_all(self._connection, len(files))
        found = zip(are_decoded, places(self._shared, files), strict=True)
        return [np.array(place) if is_decoded else None for is_decoded, place in found]
