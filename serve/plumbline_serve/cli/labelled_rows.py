"""Rows of labelled or judged scores: CSV, or JSONL such as `plumbline batch` writes."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import InvalidFieldError

_GOOD: Final = frozenset({"true", "1", "1.0", "yes", "good"})
_BAD: Final = frozenset({"false", "0", "0.0", "no", "bad"})


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file hold what."""

    score: str
    label: str = "label"
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """Scores with their labels, and their groups where they have some."""

    scores: Sequence[float]
    labels: Sequence[bool]
    groups: Sequence[str] | None
    num_left_out: int
    """Rows without a score or a label."""


def rows_of(file: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a CSV or JSONL file, such as `plumbline batch` writes.

    Raises:
        InvalidFieldError: It is neither.
        OSError: It cannot be read.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        if file.suffix == ".csv":
            yield from csv.DictReader(lines)
            return
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row(line, f"Line {number} of {file}")


def labelled(file: Path, columns: Columns) -> Labelled:
    """The labelled scores of a file.

    Args:
        file: CSV or JSONL.
        columns: Which hold what.

    Raises:
        InvalidFieldError: A column is not there, or a value of it is of another kind.
    """
    scores, labels, groups, num_left_out = list[float](), list[bool](), list[str](), 0
    for number, row in enumerate(rows_of(file), start=1):
        where = f"Row {number} of {file}"
        score, label = _number(row, columns.score, where), _label(row, columns.label, where)
        if score is None or label is None:
            num_left_out += 1
            continue
        scores.append(score)
        labels.append(label)
        groups.append("" if columns.group is None else _text(row, columns.group, where))
    return Labelled(scores, labels, None if columns.group is None else groups, num_left_out)


def score_column(file: Path, scorer: str) -> str:
    """The column that holds a scorer's values: of its name, else `score`.

    Args:
        file: CSV or JSONL.
        scorer: Its name.
    """
    return scorer if scorer in next(rows_of(file), {}) else "score"


def judged(file: Path, score: str, human: str, prompt: str) -> list[tuple[float, float, str]]:
    """Score, judgement and prompt of each row that has all three.

    Args:
        file: CSV or JSONL.
        score: Column of scores.
        human: Column of judgements, higher is better.
        prompt: Column of prompts.
    """
    rows = list[tuple[float, float, str]]()
    for number, row in enumerate(rows_of(file), start=1):
        where = f"Row {number} of {file}"
        value, said = _number(row, score, where), _number(row, human, where)
        text = _text(row, prompt, where)
        if value is not None and said is not None and text:
            rows.append((value, said, text))
    return rows


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InvalidFieldError(f"{where} is not JSON.") from error
    if not isinstance(row, dict):
        raise InvalidFieldError(f"{where} is no object.")
    return row


def _cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise InvalidFieldError(f"{where} has no column {column}.")
    return row[column]


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    """What a cell says; empty where it says nothing."""
    return "" if (given := _cell(row, column, where)) is None else str(given)


def _number(row: Mapping[str, Any], column: str, where: str) -> float | None:
    """A number of a cell; None where it is empty."""
    given = _cell(row, column, where)
    if given is None or given == "":
        return None
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidFieldError(f"{where} has no number in the column {column}.")
    return number


def _label(row: Mapping[str, Any], column: str, where: str) -> bool | None:
    """Whether a row is of a good one; None where its label is empty."""
    said = str("" if (given := _cell(row, column, where)) is None else given).strip().lower()
    if said and said not in _GOOD | _BAD:
        raise InvalidFieldError(f"{where} has no label in the column {column}: true or false, 1 or 0, yes or no.")
    return said in _GOOD if said else None
