"""The process that decodes videos: `python -m plumbline_serve.offline.videos.worker DESCRIPTOR`.

What a hostile file does to a decoder ends here. It takes `(file, number of frames)` and answers with frames or an error
until its other end is closed.
"""

import contextlib
import resource
import sys
from multiprocessing.connection import Connection

from plumbline_models.core.errors import PlumblineError

MAX_MEMORY_BYTES = 4 * 2**30


def main() -> None:
    """Answer until nobody asks."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from av import logging  # noqa: PLC0415

    from plumbline_serve.offline.videos.sampling import Bounds, frames_of  # noqa: PLC0415 - needs PyAV

    logging.set_level(logging.PANIC)
    connection = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError):
        while True:
            file, num_frames = connection.recv()
            try:
                connection.send(frames_of(file, num_frames, Bounds()))
            except PlumblineError as error:
                connection.send(error)


if __name__ == "__main__":
    main()
