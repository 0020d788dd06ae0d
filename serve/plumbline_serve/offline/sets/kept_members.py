"""Which rows of a run stand for its sets, and their encodings beside the shards.

A set is measured by at most `MAX_SET` members. Of a larger one those stand for all whose row numbers have the least
digests: an even sample, and the same one wherever a run was cut, resumed or scored. So few encodings are written: of N
rows of one set about MAX_SET * (1 + log2(N / MAX_SET)).

The encodings of a shard's rows lie beside it, in a file that is written before the shard, with how many rows each set
has had among them.
"""

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.vectors import MAX_SET
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.shards import Shard, shards_of, written
from plumbline_serve.requests.scored_members import SetMember, Vector

MAX_GROUPS: Final = 1024
"""Groups that are measured: the first ones, by where they begin."""
MEMBERS = "members-{first:012d}-{end:012d}.arrow"
_NAME = re.compile(r"members-\d{12}-\d{12}\.arrow")
_COUNTS: Final = b"plumbline.counts"
_SCHEMA: Final = pa.schema(
    {
        "row": pa.int64(),
        "priority": pa.uint64(),
        "group": pa.string(),
        "content": pa.binary(),
        "image": pa.binary(),
        "text": pa.binary(),
    }
)
"""Vectors are little-endian float32."""


class KeptMembers:
    """The members of a run's shards.

    Args:
        folder: Of the shards.
        column: By whose values there are groups; None: there are none.

    Raises:
        InvalidFieldError: A shard is there without its members.
    """

    def __init__(self, folder: Path, column: str | None) -> None:
        self._folder = folder
        self._column = column
        self._whole = _Lowest()
        self._groups: dict[str, _Lowest] = {}
        folder.mkdir(parents=True, exist_ok=True)
        shards = shards_of(folder)
        whole = {_path(shard) for shard in shards}
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name) and path not in whole:
                path.unlink()  # of a shard that was never finished
        for shard in shards:
            self._take_again(shard)

    @property
    def paths(self) -> list[Path]:
        """The files, in the order of rows."""
        return [_path(shard) for shard in shards_of(self._folder)]

    def write(self, scored: Sequence[Scored]) -> None:
        """Write the members of a shard, which is to be written then.

        Args:
            scored: Its rows, in order, at least one.
        """
        counts = _Counts()
        lines = [line for each in scored if each.member and (line := self._line(each.row, each.member, counts))]
        said = orjson.dumps({"rows": counts.rows, "beyond": counts.beyond, "groups": counts.groups})
        table = pa.Table.from_pylist(lines, _SCHEMA.with_metadata({_COUNTS: said}))
        first, end = scored[0].row.number, scored[-1].row.number + 1
        with (
            written(self._folder / MEMBERS.format(first=first, end=end)) as path,
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)

    def _line(self, row: Row, member: SetMember, counts: "_Counts") -> dict[str, Any] | None:
        """Count a row; what is kept of it, if it is among those that stand for a set."""
        group, priority = self._group(row), priority_of(row.number)
        sets, is_beyond = self._sets(group)
        counts.rows += 1
        counts.beyond += is_beyond
        if group is not None and not is_beyond:
            counts.groups[group] += 1
        taken = [known.takes(priority) for known in sets]  # each of them is to know of it
        if not any(taken):
            return None
        return {
            "row": row.number,
            "priority": priority,
            "group": None if is_beyond else group,
            "content": member.content,
            "image": _packed(member.image),
            "text": None if member.text is None else _packed(member.text),
        }

    def _sets(self, group: str | None) -> "tuple[list[_Lowest], bool]":
        """The sets that a row is of, and whether its group is one too many."""
        if group is None:
            return [self._whole], False
        if group not in self._groups and len(self._groups) == MAX_GROUPS:
            return [self._whole], True
        return [self._whole, self._groups.setdefault(group, _Lowest())], False

    def _group(self, row: Row) -> str | None:
        if self._column is None:
            return None
        value = row.text if self._column == "text" else row.columns.get(self._column)
        if value is None or isinstance(value, str):
            return value
        return orjson.dumps(value, default=str).decode()

    def _take_again(self, shard: Shard) -> None:
        """Know of a shard's members as when they were written."""
        if not _path(shard).is_file():
            raise InvalidFieldError(f"{self._folder} lacks the encodings of rows {shard.first} to {shard.end - 1}.")
        table = read_members(_path(shard))
        for group in counts_of(table)["groups"]:
            self._groups.setdefault(group, _Lowest())
        for line in table.select(["priority", "group"]).to_pylist():
            for known in self._sets(line["group"])[0]:
                known.takes(line["priority"])


@dataclass(slots=True)
class _Counts:
    """How many rows of a shard were scored."""

    rows: int = 0
    beyond: int = 0
    """Those of groups beyond the bound."""
    groups: Counter[str] = field(default_factory=Counter)


class _Lowest:
    """Knows which priorities are among the least `MAX_SET` of a set, as far as it was seen; now and then one more."""

    def __init__(self) -> None:
        self._kept = array("Q")
        self._limit = 2**64

    def takes(self, priority: int) -> bool:
        """Whether a member is to be kept."""
        if priority >= self._limit:
            return False
        self._kept.append(priority)
        if len(self._kept) >= 2 * MAX_SET:
            self._kept = array("Q", sorted(self._kept)[:MAX_SET])
            self._limit = self._kept[-1]
        return True


def priority_of(row: int) -> int:
    """What a row is chosen by: as good as random, and the same in every run; below 2^64.

    Args:
        row: Its number.
    """
    return int.from_bytes(hashlib.blake2b(row.to_bytes(8, "little"), digest_size=8).digest(), "little")


def read_members(path: Path) -> pa.Table:
    """The members of a shard; nothing is read before it is looked at.

    Raises:
        InvalidFieldError: It is no such file.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException) as error:
        raise InvalidFieldError(f"{path} holds no encodings.") from error


def counts_of(members: pa.Table) -> dict[str, Any]:
    """How many rows of a shard were scored (`rows`), by group (`groups`), and of groups beyond the bound (`beyond`)."""
    found: dict[str, Any] = orjson.loads(members.schema.metadata[_COUNTS])
    return found


def _packed(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()


def _path(shard: Shard) -> Path:
    return shard.path.with_name(MEMBERS.format(first=shard.first, end=shard.end))
