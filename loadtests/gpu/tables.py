"""The figures as Markdown tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_markdown(report: Mapping[str, Any], file: Path) -> None:
    """Write all tables of a report."""
    lines = [
        f"# {', '.join(report['devices'])}, {report['date']}",
        "",
        (
            f"torch {report['torch']}, backend {report['backend'] or 'none'}; one large bf16 product reaches "
            f"{report['peak_tflops']:.0f} TFLOP/s here. Rows a second from host memory to host memory, medians of "
            "rounds taken in turn."
        ),
        "",
        *_rates(report["rates"]),
        *_records("Parity with the papers' own programs", report["parity"]),
        *_records("From JPEG bytes to scores, latencies at 70 % of that", report["jpeg_to_score"]),
        *(["## Failures", "", *(f"- {each}" for each in report["failures"]), ""] if report["failures"] else []),
    ]
    file.write_text("\n".join(lines), encoding="utf-8")


def _rates(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    engines = list(dict.fromkeys(engine for row in rows for engine in row["rows_a_second"]))
    header = ["graph", "batch", *(f"{engine} / s (share of peak)" for engine in engines)]
    cells = [[row["graph"], str(row["batch"]), *(_rate(row, engine) for engine in engines)] for row in rows]
    return _table("Rates", header, cells)


def _rate(row: Mapping[str, Any], engine: str) -> str:
    if engine not in row["rows_a_second"]:
        return "failed"
    return f"{row['rows_a_second'][engine]:.0f} ({row['share_of_peak'][engine]:.0%})"


def _records(title: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    header = list(dict.fromkeys(name for record in records for name in record))
    return _table(title, header, [[str(record.get(name, "")) for name in header] for record in records])


def _table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    if not cells:
        return [f"## {title}", "", "Not measured.", ""]
    rows = [header, ["---"] * len(header), *cells]
    return [f"## {title}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
