"""`plumbline evaluate`: a paper's table from its published files, beside the published figures."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from plumbline_serve.cli.results import literally, show_json, show_table
from plumbline_serve.offline.evaluation import Evaluated
from plumbline_serve.offline.evaluation.cases import Published

OK, SOME_FAILED = 0, 1


def show(found: Evaluated, *, as_json: bool) -> int:
    """Print the table; the exit status says whether every row was scored.

    Args:
        found: The figures.
        as_json: As a document, instead of a table for people.
    """
    if as_json:
        show_json(document(found))
    else:
        _show_table(found)
    return SOME_FAILED if found.num_failed else OK


def document(found: Evaluated) -> dict[str, Any]:
    """The figures, JSON-ready."""
    lines = [
        {
            "scorer": scorer,
            "measure": measure,
            "figures": [_number(each) for each in figures],
            "published": [{"value": each.value, "by": each.by} for each in published],
        }
        for scorer, measure, _, figures, published in _lines(found)
    ]
    return {
        "suite": found.suite.name,
        "precisions": found.precisions,
        "rows": found.num_rows,
        "failed": found.num_failed,
        "first_problem": found.first_problem,
        "table": lines,
        "made_by": [each.model_dump(mode="json")["scorers"] for each in found.facts],
    }


def _show_table(found: Evaluated) -> None:
    table = Table("scorer", "measure", "of", *found.precisions, "published")
    for scorer, measure, num, figures, published in _lines(found):
        beside = "; ".join(f"{each.value:g} ({each.by})" for each in published)
        cells = ["—" if math.isnan(each) else f"{each:.3f}" for each in figures]
        table.add_row(literally(scorer), literally(measure), f"{num:,}", *cells, literally(beside))
    lines = [found.suite.title, *_conventions(found)]
    if found.num_failed:
        lines.append(f"{found.num_failed:,} rows have no value of some scorer and are left out.")
        lines.append(f"Why the first has none: {found.first_problem}")
    show_table(table, *map(literally, lines))


def _lines(found: Evaluated) -> list[tuple[str, str, int, list[float], Sequence[Published]]]:
    lines = []
    for scorer, columns in found.figures.items():
        for measure in dict.fromkeys(name for column in columns for name in column):
            cells = [column[measure].value if measure in column else float("nan") for column in columns]
            num = max(column[measure].num for column in columns if measure in column)
            lines.append((scorer, measure, num, cells, found.suite.published.get((scorer, measure), ())))
    return lines


def _conventions(found: Evaluated) -> list[str]:
    """Of each scorer, for a figure says nothing without them."""
    return [
        f"{name}: {', '.join(f'{key} {value!r}' for key, value in facts.conventions.items())}"
        for name, facts in (found.facts[0].scorers.items() if found.facts else ())
        if facts.conventions
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
