"""Rows cut into requests, and what comes back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

from plumbline_models.core.errors import PlumblineError
from plumbline_serve.edge.problems import problem
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.readers import Reader
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.videos import VideoDecoder
from plumbline_serve.requests.scored_members import SetMember

Document: TypeAlias = dict[str, Any]
"""One item's result in the shape of REST."""
CHUNK_ROWS = 64
CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Scored:
    """A row and its result."""

    row: Row
    """Without the bytes of its images, which are not kept."""
    result: Document
    member: SetMember | None = None
    """Its image as a member of the set of all; None where it was not scored, or nobody asked for a set."""


class Runner(Protocol):
    """Scores rows, in their order."""

    @property
    def facts(self) -> RunFacts:
        """What scores are made by."""
        ...

    def score_from(self, reader: Reader, start: int) -> Iterator[Scored]:
        """Score the rows of an input in their order; few of them are in memory at a time.

        Args:
            reader: Of the input.
            start: The first row's number.

        Raises:
            PlumblineError: No row can be scored.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(slots=True)
class ChunkBounds:
    """How much one request may hold; may be lowered on the way, where a server turns out to take less."""

    max_file_bytes: int
    max_rows: int = CHUNK_ROWS
    max_bytes: int = CHUNK_BYTES
    max_questions: int = 1024
    max_frames: int = 1024

    def cut(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        """Read the files of rows, and put as many together as the bounds allow; a large row stands alone."""
        with VideoDecoder() as videos:
            yield from self._together(row.loaded(self.max_file_bytes, videos) for row in rows)

    def _together(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        chunk: list[Row] = []
        num_bytes = num_questions = num_frames = 0
        for row in rows:
            is_full = (
                len(chunk) >= self.max_rows
                or num_bytes + row.num_bytes > self.max_bytes
                or num_questions + len(row.questions) > self.max_questions
                or num_frames + len(row.frames) > self.max_frames
            )
            if chunk and is_full:
                yield chunk
                chunk, num_bytes, num_questions, num_frames = [], 0, 0, 0
            chunk.append(row)
            num_bytes += row.num_bytes
            num_questions += len(row.questions)
            num_frames += len(row.frames)
        if chunk:
            yield chunk


def failure(row: Row, error: PlumblineError) -> Document:
    """The result of a row that was not scored.

    Args:
        row: Which.
        error: Why.
    """
    return {"id": str(row.number), "status": "error", "error": problem(error)}


def readable(rows: Sequence[Row]) -> list[Row]:
    """Those that can be sent."""
    return [row for row in rows if row.error is None]


def joined(
    rows: Sequence[Row], results: Iterable[Document], members: Iterable[SetMember | None] = ()
) -> Iterator[Scored]:
    """Every row of a chunk with its result.

    Args:
        rows: The chunk.
        results: Of those that were sent, in order.
        members: As results; empty where nobody asked for a set.
    """
    found, encoded = iter(results), iter(members)
    for row in rows:
        if row.error is not None:
            yield Scored(without_pictures(row), failure(row, row.error))
            continue
        result, member = next(found), next(encoded, None)
        yield Scored(without_pictures(row), result, member if result["status"] == "ok" else None)


def without_pictures(row: Row) -> Row:
    """The row without what has become of its images."""
    columns = {key: value for key, value in row.columns.items() if not _is_picture(value)}
    return Row(row.number, row.name, text=row.text, columns=columns, error=row.error)


def _is_picture(value: Any) -> bool:
    if isinstance(value, list):  # frames
        return any(map(_is_picture, value))
    return isinstance(value, bytes) or (isinstance(value, dict) and isinstance(value.get("bytes"), bytes))
