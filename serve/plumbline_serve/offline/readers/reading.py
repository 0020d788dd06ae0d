"""What every reader offers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from plumbline_models.core.errors import InvalidFieldError
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

    def files(self) -> Sequence[Path]:
        """The tables or tars that rows stand in; of a folder of images none."""
        ...


def check_columns(name: str, columns: Sequence[str], image_column: str) -> None:
    """See that a table has its images, and every column once.

    Args:
        name: Of its file.
        columns: Of its header.
        image_column: That of images.

    Raises:
        InvalidFieldError: It lacks them, or two columns have one name.
    """
    if image_column not in columns:
        raise InvalidFieldError(f"{name} has no column {image_column!r}.")
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise InvalidFieldError(f"{name} has two columns {column!r}.")
        seen.add(column)
