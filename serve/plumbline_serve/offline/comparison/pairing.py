"""Rows of two outputs that belong together: the same prompt and the same seed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.outputs import ScoredTable

USUAL_KEYS = ("text", "seed")


@dataclass(frozen=True, slots=True)
class PairedRow:
    """One row of each output."""

    prompt: str
    before: Mapping[str, Any]
    """Of the first output: its scores, `image`, `row`, and the column of tags."""
    after: Mapping[str, Any]
    tags: Sequence[str] = ()


@dataclass(slots=True)
class Pairs:
    """What belongs together, and how much has nothing to belong to."""

    rows: list[PairedRow] = field(default_factory=list)
    num_only_before: int = 0
    num_only_after: int = 0


def check_comparable(before: ScoredTable, after: ScoredTable, names: Sequence[str] | None = None) -> list[str]:
    """The scorers that can be compared: those of both outputs, made by the same weights under the same conventions.

    Args:
        before: The first output.
        after: The second.
        names: Only these; None: all that both have.

    Raises:
        InvalidFieldError: There is none, or one differs.
    """
    both = [name for name in before.facts.scorers if name in after.facts.scorers]
    chosen = both if names is None else list(names)
    if missing := [name for name in chosen if name not in both]:
        raise InvalidFieldError(f"Not both outputs have scores of {', '.join(missing)}.")
    if not chosen:
        raise InvalidFieldError("The outputs have no scorer in common.")
    for name in chosen:
        first, second = before.facts.scorers[name], after.facts.scorers[name]
        if first.weights != second.weights:
            raise InvalidFieldError(f"The weights of {name} differ, so its scores do not compare.")
        if first.conventions != second.conventions:
            changed = [
                key
                for key in sorted({*first.conventions, *second.conventions})
                if first.conventions.get(key) != second.conventions.get(key)
            ]
            raise InvalidFieldError(
                f"The conventions of {name} differ ({', '.join(changed)}): its scores do not compare."
            )
    return chosen


def keys_of(before: ScoredTable, after: ScoredTable, wanted: Sequence[str] | None) -> list[str]:
    """The columns by which rows are paired: the prompt, and the seed where both have it.

    Args:
        before: The first output.
        after: The second.
        wanted: As the caller names them; None: the usual ones.

    Raises:
        InvalidFieldError: One is not there.
    """
    common = set(before.names) & set(after.names)
    if wanted is None:
        return [name for name in USUAL_KEYS if name in common]
    if missing := [name for name in wanted if name not in common]:
        raise InvalidFieldError(f"Not both outputs have a column {missing[0]!r}.")
    return list(wanted)


def pair_up(
    before: ScoredTable, after: ScoredTable, *, names: Sequence[str], keys: Sequence[str], tag: str | None
) -> Pairs:
    """Pair rows; of several with one key the first goes with the first, and so on.

    Args:
        before: The first output, whose columns that are needed are held in memory.
        after: The second.
        names: Of the scorers.
        keys: Columns that rows of a pair share.
        tag: Column of a tag, or of a list of them; None: there is none.
    """
    waiting = dict(_keyed(before, names, keys, tag))
    pairs = Pairs()
    for key, line in _keyed(after, names, keys, tag):
        first = waiting.pop(key, None)
        if first is None:
            pairs.num_only_after += 1
            continue
        tags = _tags(first.get(tag) if tag else None)
        pairs.rows.append(PairedRow(str(line.get(keys[0], "")) if keys else "", first, line, tags))
    pairs.num_only_before = len(waiting)
    return pairs


def _keyed(
    table: ScoredTable, names: Sequence[str], keys: Sequence[str], tag: str | None
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    wanted: dict[str, None] = dict.fromkeys([*names, *keys, "image", "row", *([tag] if tag else [])])
    seen: Counter[tuple[Any, ...]] = Counter()
    for line in table.lines([name for name in wanted if name in table.names]):
        key = tuple(str(line[name]) for name in keys)
        yield (*key, seen[key]), line
        seen[key] += 1


def _tags(given: Any) -> Sequence[str]:
    if given is None:
        return ()
    return tuple(map(str, given)) if isinstance(given, list) else (str(given),)
