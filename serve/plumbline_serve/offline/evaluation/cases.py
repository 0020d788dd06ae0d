"""What a suite asks to be scored, and what it makes of the scores."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.rows import Row

Result: TypeAlias = Mapping[str, Any]
"""One scorer's answer in the shape of REST: `value` and its details."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell of a table."""

    measure: str
    value: float
    num: int
    """Of what it is made: pairs, images, captions."""


Judge: TypeAlias = Callable[[str, Sequence[Result | None]], list[Figure]]
"""Figures of a scorer from its answers to all rows; None where it has none."""


@dataclass(frozen=True, slots=True)
class Cases:
    """A suite that was read."""

    rows: Sequence[Row]
    judge: Judge


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that others published."""

    value: float
    by: str
    """Network and source."""


class Suite(Protocol):
    """One benchmark."""

    @property
    def name(self) -> str:
        """As the command calls it."""
        ...

    @property
    def title(self) -> str:
        """What it is, for people."""
        ...

    @property
    def scorers(self) -> Sequence[str]:
        """Those that it says something about."""
        ...

    @property
    def published(self) -> Mapping[tuple[str, str], Sequence[Published]]:
        """By scorer and measure."""
        ...

    def read(self, folder: Path | None) -> Cases:
        """Read the files as they are published.

        Args:
            folder: Where they lie.

        Raises:
            InvalidFieldError: They are not there, or are others.
        """
        ...


@dataclass(slots=True)
class RowList:
    """Rows that are made one by one."""

    rows: list[Row] = field(default_factory=list)

    def add(self, image: Path | bytes, text: str | None, references: Sequence[str] = ()) -> int:
        """Make a row; returns its number.

        Args:
            image: Its file, or the bytes of one.
            text: Its caption.
            references: What the caption is compared with.
        """
        number = len(self.rows)
        name = image.name if isinstance(image, Path) else str(number)
        self.rows.append(Row(number, name, image=image, text=text, references=tuple(references)))
        return number


def values(results: Sequence[Result | None], numbers: Iterable[int]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Values of some rows; NaN where there is none.

    Args:
        results: Of all rows.
        numbers: Of the rows.
    """
    found = [results[number] for number in numbers]
    return np.array([np.nan if each is None else float(each["value"]) for each in found], np.float64)


def find(folder: Path | None, *names: str) -> Path:
    """The first of some files that is there, in the folder or in one within it.

    Args:
        folder: Where to look.
        *names: Of files or folders.

    Raises:
        InvalidFieldError: None is.
    """
    if folder is None:
        raise InvalidFieldError("This suite needs --data, the folder of its published files.")
    for name in names:
        if (folder / name).exists():
            return folder / name
        if found := sorted(folder.glob(f"*/{name}")):
            return found[0]
    raise InvalidFieldError(f"{folder} holds no {' or '.join(names)}.")


def read_json(path: Path) -> Any:
    """The document of a file.

    Raises:
        InvalidFieldError: It is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InvalidFieldError(f"{path.name} cannot be read as JSON.") from error


def read_csv(path: Path, *columns: str) -> list[dict[str, str]]:
    """The lines of a table with a header.

    Args:
        path: Of the file.
        *columns: That it must have.

    Raises:
        InvalidFieldError: It lacks one, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidFieldError(f"{path.name} cannot be read as CSV.") from error
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise InvalidFieldError(f"{path.name} has no column {missing[0]!r}.")
    return lines


def misfit(path: Path, error: Exception) -> InvalidFieldError:
    """The error of a file that holds something else than what is published.

    Args:
        path: Of the file.
        error: What was missing.
    """
    return InvalidFieldError(f"{path.name} is not as it is published: {type(error).__name__} {error}.")
