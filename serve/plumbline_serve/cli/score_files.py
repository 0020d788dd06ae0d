"""The files that `plumbline score` was given: named, read, and cut into requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline_serve.offline.image_files import File, read


@dataclass(slots=True)
class Cutter:
    """Cuts files into chunks; the bounds may be lowered on the way, where a server turns out to take less.

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

    def learn(self, refused: Sequence[File], code: str) -> None:
        """Lower the bound that a server refused a chunk for.

        Args:
            refused: The chunk.
            code: The code of the server's error.
        """
        if code == "too_many_items":
            self.max_items = min(self.max_items, len(refused) // 2)
        else:
            self.max_bytes = min(self.max_bytes, sum(len(file.data) for file in refused) // 2)
