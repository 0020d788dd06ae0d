"""The figures of one run, as JSON and as a table."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def add_out(parser: argparse.ArgumentParser) -> None:
    """Let the caller name a file for the figures."""
    parser.add_argument("--out", type=Path, help="write the figures there as JSON too")


def report(figures: Mapping[str, Any], *, out: Path | None) -> None:
    """Print the figures, with the load that the machine had, and write them to `out` if it is given."""
    document = json.dumps({"load_average": os.getloadavg(), **figures}, indent=2)
    print(document)
    if out is not None:
        out.write_text(document + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, as wide as its widest cells, so that it reads in a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
