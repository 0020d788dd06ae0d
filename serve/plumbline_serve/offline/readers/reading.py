"""What every reader offers."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from plumbline_serve.offline.rows import Row


class Reader(Protocol):
    """Reads one input; picklable, so that other machines read it too."""

    @property
    def kind(self) -> str:
        """`folder`, `csv`, `jsonl`, `parquet` or `tar`."""
        ...

    def count(self) -> int | None:
        """How many rows there are, at most: lines within a quoted field count, too. None: it is not known."""
        ...

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """The rows in order; images that are files of their own are not read yet.

        Args:
            start: The first row's number.
            stop: The number behind the last; None: to the end.
        """
        ...

    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns, where the input says them."""
        ...
