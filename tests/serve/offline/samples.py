"""Inputs of every kind with the same rows, and a runner whose scores are arithmetic."""

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plumbline_models.core.errors import EngineError, ImageUndecodableError, PlumblineError
from plumbline_serve.edge.problems import problem
from plumbline_serve.offline.facts import RunFacts, ScorerFacts
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.chunks import ChunkBounds, Document, Scored, failure, joined, readable
from plumbline_serve.requests.scored_members import SetMember
from tests.services import encoded, picture

FACTS = RunFacts(
    scorers={
        "size": ScorerFacts(conventions={"unit": "byte"}, weights={"size/image": "00ff"}, needs=("image",)),
        "match": ScorerFacts(weights={"match/pair": "aa"}, needs=("image", "text"), low=0.0, high=1.0),
    }
)


class SizeRunner:
    """Scores an image file by its bytes, and a text by its length; `unlucky` has no match, `crash` ends the run.

    Args:
        facts: What it says of itself.
        broken_from: The first row that the engines fail on, as on all that follow; None: none.
        makes_members: Whether rows are members of a set: those of equal numbers modulo 5 point the same way.
    """

    def __init__(self, facts: RunFacts = FACTS, broken_from: int | None = None, *, makes_members: bool = False) -> None:
        self.makes_members = makes_members
        self.facts = facts
        self.broken_from = broken_from
        self.num_scored = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def score_from(self, reader: Reader, start: int) -> Iterator[Scored]:
        return self.score(reader.rows(start))

    def score(self, rows: Iterable[Row]) -> Iterator[Scored]:
        for chunk in ChunkBounds(max_file_bytes=10**6, max_rows=3).cut(rows):
            members = [member(row.number, row.text) for row in readable(chunk)] if self.makes_members else ()
            yield from joined(chunk, [self._result(row) for row in readable(chunk)], members)

    def _result(self, row: Row) -> Document:
        self.num_scored += 1
        if row.text == "crash":
            raise PlumblineError("The engines are gone.")
        if self.broken_from is not None and row.number >= self.broken_from:
            return failure(row, EngineError("The encoder failed on this input."))
        if not isinstance(row.image, bytes):
            return {"id": "", "status": "error", "error": problem(ImageUndecodableError("There is no image."))}
        scores: Document = {"size": {"value": float(len(row.image))}}
        if row.text is not None:
            words = [{"text": each, "misaligned": len(each) > 4} for each in row.text.split()]
            scores["match"] = {"value": len(row.text) / 100, "words": words}
            if row.text == "unlucky":
                scores["match"] = {"error": problem(PlumblineError("Unlucky."))}
        return {"id": str(row.number), "status": "ok", "scores": scores}


def member(number: int, text: str | None) -> SetMember:
    """A row as a member of a set."""
    image = np.random.default_rng(number % 5).normal(size=8).astype(np.float32)
    words = None if text is None else np.random.default_rng(len(text)).normal(size=8).astype(np.float32)
    return SetMember(image, words, bytes([number % 10]))


def image_bytes(number: int) -> bytes:
    return encoded(picture(number, (16 + number, 20)), "PNG")


TEXTS = ["a red circle", "two blue squares", None, "a star"]
COLOURS = ["red", "blue", "green", "red"]


def _folder(folder: Path, lines: list[dict[str, Any]]) -> Path:
    for line in lines:
        if line["text"]:
            (folder / line["image"]).with_suffix(".txt").write_text(line["text"] + "\n", encoding="utf-8")
    return folder


def _csv(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def _jsonl(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def _parquet(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(lines), path, row_group_size=3)
    return path


def _parquet_bytes(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """As the datasets library writes images."""
    held = [{**line, "image": {"bytes": (folder / line["image"]).read_bytes(), "path": None}} for line in lines]
    return _parquet(folder, held)


def _tar(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "rows.tar"
    with tarfile.open(path, "w") as tar:
        for number, line in enumerate(lines):
            members = {
                "png": (folder / line["image"]).read_bytes(),
                "json": json.dumps({"colour": line["colour"]}).encode(),
            }
            if line["text"]:
                members["txt"] = line["text"].encode()
            for ending, data in members.items():
                member = tarfile.TarInfo(f"samples/{number:04d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


WRITERS = {
    "folder": _folder, "csv": _csv, "jsonl": _jsonl, "parquet": _parquet, "parquet bytes": _parquet_bytes, "tar": _tar,
}  # fmt: skip
