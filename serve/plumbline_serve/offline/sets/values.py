"""The values of a run's sets, as they stand in a file beside its output."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.measures import NEAR_DUPLICATE, Asked, Diversity, diversity_of
from plumbline_models.sets.vectors import MAX_SET, Matrix, unit_rows
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.progress import Meter, unshown
from plumbline_serve.offline.sets.kept_members import counts_of, read_members

VERSION = 1


@dataclass(frozen=True, slots=True)
class SetOptions:
    """What is asked about the images of a run together."""

    by: str | None = None
    """The column by whose values they are groups as well; None: there are none."""
    near_duplicate: float = NEAR_DUPLICATE
    """Least cosine of near-duplicates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetValues(Diversity):
    """One set, as `POST /v1/sets/diversity` answers, but with numbers of rows and of scored images alone."""

    group: str | None
    """The value of the column; null: all images."""
    num_images: int
    """Scored images of the set; more than `n` where the values are of a sample."""


class SetsDocument(BaseModel):
    """All sets of a run."""

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    encoder: str
    """By its key in `GET /v1/models`: values of two encoders are not to be compared."""
    weights: str
    """SHA-256 of the encoder's."""
    by: str | None
    near_duplicate: float
    max_members: int = MAX_SET
    num_beyond: int
    """Images of groups beyond the first that are measured."""
    sets: list[SetValues]
    """All images first, then the groups, by where they begin; none where nothing was scored."""

    @classmethod
    def read(cls, path: Path) -> "SetsDocument":
        """Read what a run wrote.

        Raises:
            InvalidFieldError: There is none, or it was not written by this program.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidFieldError(f"The output was made without --set: there is no {path}.") from error
        except ValidationError as error:
            raise InvalidFieldError(f"{path} does not hold measures of sets.") from error


@dataclass(frozen=True, slots=True)
class _Index:
    """Where members lie."""

    tables: Sequence[pa.Table]
    table: NDArray[np.int64]
    """The table of each member, by index."""
    place: NDArray[np.int64]
    """Its place there."""
    priority: NDArray[np.uint64]
    by_group: dict[str, NDArray[np.int64]]
    """The members of each group, by index."""

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> "_Index":
        """Of tables in the order of rows; vectors are not read."""
        sizes = [table.num_rows for table in tables]
        groups = [group for table in tables for group in table.column("group").to_pylist()]
        places: dict[str, list[int]] = {}
        for index, group in enumerate(groups):
            if group is not None:
                places.setdefault(group, []).append(index)
        return cls(
            tables,
            np.repeat(np.arange(len(tables)), sizes),
            np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, np.int64),
            np.concatenate([table.column("priority").to_numpy() for table in tables] or [np.zeros(0, np.uint64)]),
            {group: np.array(found) for group, found in places.items()},
        )

    def lines(self, members: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
        """The members with their vectors, in order; of too many those that stand for all."""
        if len(members) > MAX_SET:
            members = np.sort(members[np.argpartition(self.priority[members], MAX_SET)[:MAX_SET]])
        for number in np.unique(self.table[members]):
            yield from self.tables[number].take(self.place[members[self.table[members] == number]]).to_pylist()


def measured_sets(
    paths: Sequence[Path],
    facts: RunFacts,
    options: SetOptions,
    meter: Callable[[int], AbstractContextManager[Meter]] = unshown,
) -> SetsDocument:
    """Work out the values of all images together and of each group; one set is in memory at a time.

    Args:
        paths: Of `KeptMembers`, in the order of rows.
        facts: Name the encoder.
        options: What is asked.
        meter: Makes what shows how many sets of all are done, as a context.

    Raises:
        InvalidFieldError: The encodings are of several lengths, or not to be read.
    """
    index, counts = _Index.of([read_members(path) for path in paths]), Counter[str]()
    num_images = num_beyond = 0
    for table in index.tables:
        said = counts_of(table)
        num_images, num_beyond = num_images + said["rows"], num_beyond + said["beyond"]
        counts.update(said["groups"])
    wanted: list[tuple[str | None, NDArray[np.int64], int]] = []
    if num_images:
        wanted.append((None, np.arange(len(index.table)), num_images))
    wanted += [(group, index.by_group[group], num) for group, num in counts.items()]
    sets = []
    with meter(len(wanted)) as shown:
        for group, found, num in wanted:
            sets.append(_values(index, found, group, (num, options)))
            shown.advance(1, 0)
    return SetsDocument(
        encoder=facts.set_encoder,
        weights=facts.set_weights,
        by=options.by,
        near_duplicate=options.near_duplicate,
        num_beyond=num_beyond,
        sets=sets,
    )


def _values(index: _Index, members: NDArray[np.int64], group: str | None, about: tuple[int, SetOptions]) -> SetValues:
    num_images, options = about
    lines = list(index.lines(members))
    rows = [line["row"] for line in lines]
    texts = None if any(line["text"] is None for line in lines) else _matrix(lines, "text")
    found = diversity_of(
        _matrix(lines, "image"),
        Asked(near_duplicate=options.near_duplicate),
        contents=[line["content"] for line in lines],
        texts=texts,
    )
    return SetValues(group=group, num_images=num_images, **found.renumbered(rows))


def _matrix(lines: Sequence[dict[str, Any]], name: str) -> Matrix:
    return unit_rows([np.frombuffer(line[name], "<f4") for line in lines], f"/{name}")
