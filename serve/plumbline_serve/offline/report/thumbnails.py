"""Small pictures within the page, as addresses that hold them."""

import base64
import io
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Self

from PIL import Image

from plumbline_models.core.errors import PlumblineError
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_serve.offline.image_files import read
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.rows import Row

SIDE_PX = 192
QUALITY = 80
MAX_FILE_BYTES = 64 * 2**20


class Thumbnails:
    """Makes them; what cannot be decoded has none. A context manager, for a decoder beside this process may run."""

    def __init__(self) -> None:
        self._decoder = ImageDecoder(DecodePolicy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def of_rows(self, reader: Reader, numbers: AbstractSet[int]) -> dict[int, str]:
        """Those of an input's rows, by number, in one pass over it.

        Args:
            reader: Of the input.
            numbers: Of the rows.
        """
        if not numbers:
            return {}
        found = {}
        for row in reader.rows(min(numbers), max(numbers) + 1):
            if row.number in numbers and (address := self._of_row(row)):
                found[row.number] = address
        return found

    def of_file(self, path: Path) -> str | None:
        """That of an image file.

        Args:
            path: Of the file.
        """
        file = read(path, MAX_FILE_BYTES)
        return None if file.error else self.of_bytes(file.data)

    def of_bytes(self, data: bytes) -> str | None:
        """That of the bytes of an image file."""
        try:
            image = Image.fromarray(self._decoder.decode(data))
        except PlumblineError:
            return None
        image.thumbnail((SIDE_PX, SIDE_PX))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"

    def _of_row(self, row: Row) -> str | None:
        loaded = row.loaded(MAX_FILE_BYTES)
        image = next(iter(loaded.frames), loaded.image)
        return self.of_bytes(image) if isinstance(image, bytes) else None
