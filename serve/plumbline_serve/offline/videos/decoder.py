"""Asks the process that decodes videos, and starts another where a video was its end."""

import importlib.util
import multiprocessing
import subprocess  # nosec B404 - this program's own module
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from plumbline_models.core.errors import ConfigError, ImageUndecodableError, PlumblineError

VIDEO_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"})
MAX_SECONDS = 120.0
"""Of one video, and of starting the process, on a machine that is busy; longer, and it costs its row."""
WORKER = "plumbline_serve.offline.videos.worker"


class VideoDecoder:
    """Frames of videos; the process is started for the first of them. A context manager, for one thread.

    Args:
        max_seconds: That one video may take.
    """

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self._max_seconds = max_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def frames(self, file: Path | bytes, num_frames: int) -> Sequence[bytes]:
        """Frames as PNG, evenly through the video's time.

        Args:
            file: Where it is, or what it holds.
            num_frames: How many.

        Raises:
            ConfigError: PyAV is not installed.
            ImageUndecodableError: It is no video, is damaged, or takes too long.
            ImageTooLargeError: It takes more than is allowed.
        """
        connection = self._connection or self._start()
        try:
            connection.send((file, num_frames))
            if not connection.poll(self._max_seconds):
                self._end()
                raise ImageUndecodableError(f"The video took more than {self._max_seconds:g} s to decode.")
            answer: list[bytes] | PlumblineError = connection.recv()
        except (EOFError, OSError) as error:
            self._end()
            raise ImageUndecodableError("The video was the end of its decoder.") from error
        if isinstance(answer, PlumblineError):
            raise answer
        return answer

    def _start(self) -> Connection:
        if importlib.util.find_spec("av") is None:
            raise ConfigError("Videos need PyAV: pip install plumbline-serve[video].")
        here, there = multiprocessing.Pipe()
        with there:
            command = [sys.executable, "-m", WORKER, str(there.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[there.fileno()])  # noqa: S603  # nosec B603
        self._connection = here
        return here

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
