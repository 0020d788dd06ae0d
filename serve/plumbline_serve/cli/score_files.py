"""The files that `plumbline score` was given: named, read, and cut into requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline_serve.offline.image_files import File, read


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts files into chunks.

    Only one chunk is in memory. A file above the bound of bytes makes a chunk of its own.
    """

    max_items: int
    max_bytes: int
    max_file_bytes: int

    def cut(self, paths: Sequence[Path]) -> Iterator[list[File]]:
        """Read the files in order, as many at a time as the bounds allow."""
        chunk: list[File] = []
        num_bytes = 0
        for path in paths:
            file = read(path, self.max_file_bytes)
            if chunk and (len(chunk) >= self.max_items or num_bytes + len(file.data) > self.max_bytes):
                yield chunk
                chunk, num_bytes = [], 0
            chunk.append(file)
            num_bytes += len(file.data)
        if chunk:
            yield chunk
