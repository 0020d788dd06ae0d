"""Results as Arrow columns: a column for each score, and one for each of its details.

    row  id  …further columns…  image  text  clipscore  clipscore.cosine  fclipscore  fclipscore.words  …

A column has the type of what was seen first. Where a later value does not fit, both become one type that holds them:
at last text, which holds all, as JSON.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import orjson
import pyarrow as pa

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.runners.chunks import Document, Scored

ROW, IMAGE, TEXT, ID = "row", "image", "text", "id"
OWN_TYPES = {ROW: pa.int64(), IMAGE: pa.string(), TEXT: pa.string()}
RENAMED = "input."
"""Before the name of a column of the input that has the name of one of ours."""
RATES = pa.map_(pa.string(), pa.float64())
_BINARY = (
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view,
)  # fmt: skip


def table_of(scored: Sequence[Scored], facts: RunFacts, known: pa.Schema) -> pa.Table:
    """Rows that were scored, as columns; rows that failed as a whole are left out.

    Args:
        scored: In order.
        facts: Name the scorers, each of which has a column.
        known: Columns that there were before, with their types; more may come.
    """
    lines = [_line(each, facts) for each in scored if each.result["status"] == "ok"]
    names = list(dict.fromkeys([*known.names, *(name for line in lines for name in line)]))
    arrays, fields = [], []
    for name in sorted(names, key=lambda name: _place(name, facts)):
        before = known.field(name).type if name in known.names else None
        array = _array([line.get(name) for line in lines], before, is_ours=facts.scorer_of(name) is not None)
        arrays.append(array)
        fields.append(pa.field(name, array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def first_schema(facts: RunFacts, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns that are known before a row is read.

    Args:
        facts: Name the scorers.
        types: Of the input's columns, where it says them; images in them do not pass through.
    """
    passing = {_renamed(name, facts): kind for name, kind in types.items() if not holds_bytes(kind)}
    scores: dict[str, pa.DataType] = {}
    for name, scorer in facts.scorers.items():
        scores[name] = pa.float64()
        if "text" in scorer.needs:
            scores[f"{name}.truncated"] = pa.bool_()
    return pa.schema({ROW: pa.int64(), **passing, IMAGE: pa.string(), TEXT: pa.string(), **scores})


def check_names(facts: RunFacts) -> None:
    """See that no scorer has the name of another one's detail, as classifiers `a` and `a.class` would.

    Raises:
        InvalidFieldError: One has.
    """
    for first, second in permutations(facts.scorers, 2):
        if second.startswith(f"{first}."):
            raise InvalidFieldError(f"Columns of {first} and {second} may have one name: score them in two runs.")


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column may hold images, which do not pass through: bytes, `{bytes, path}`, or lists of them."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and holds_bytes(field.type) for field in kind.fields)
    if any(is_list(kind) for is_list in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        return holds_bytes(kind.value_type)
    return any(is_kind(kind) for is_kind in _BINARY)


def unified(schemas: Iterable[pa.Schema], facts: RunFacts) -> pa.Schema:
    """One schema that holds what any of them does.

    Args:
        schemas: Of shards.
        facts: Give the order of columns.
    """
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            types[field.name] = _common(types.get(field.name, pa.null()), field.type)
    return pa.schema([(name, types[name]) for name in sorted(types, key=lambda name: _place(name, facts))])


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns and types of a wider schema.

    Args:
        table: Of a shard.
        schema: As `unified` made it.
    """
    arrays = []
    for field in schema:
        if field.name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, field.type))
        elif table.schema.field(field.name).type == field.type:
            arrays.append(table.column(field.name))
        else:
            arrays.append(_array(table.column(field.name).to_pylist(), field.type, is_ours=False))
    return pa.Table.from_arrays(arrays, schema=schema)


def _line(scored: Scored, facts: RunFacts) -> dict[str, Any]:
    row = scored.row
    line: dict[str, Any] = {ROW: row.number, IMAGE: row.name or None, TEXT: row.text}
    line |= {_renamed(name, facts): value for name, value in row.columns.items()}
    for name, score in scored.result["scores"].items():
        line |= _score_columns(name, score)
        if name in facts.scorers and "text" in facts.scorers[name].needs:
            line.setdefault(f"{name}.truncated", False)
    return line


def _score_columns(name: str, score: Document) -> dict[str, Any]:
    if "error" in score:
        return {name: None}
    details = {f"{name}.{key}": value for key, value in score.items() if key not in ("value", "frames")}
    if frames := score.get("frames"):
        details |= {f"{name}.frames": frames["values"], f"{name}.worst_frame": frames["worst"]}
    return {name: score["value"], **details}


def _renamed(name: str, facts: RunFacts) -> str:
    """The name that a column of the input has in the output; no two have the same."""
    bare = name
    while bare.startswith(RENAMED):
        bare = bare.removeprefix(RENAMED)
    taken = bare in OWN_TYPES or facts.scorer_of(bare) is not None
    return RENAMED + name if taken else name


def _place(name: str, facts: RunFacts) -> tuple[int, int, bool, str]:
    """Where a column stands: number and id, the input's, image and text, then scorer by scorer."""
    first = {ROW: -4, ID: -3, IMAGE: -1, TEXT: 0}
    scorers = list(facts.scorers)
    scorer = facts.scorer_of(name)
    if name in first:
        return (0, first[name], False, "")
    if scorer is not None:
        return (1, scorers.index(scorer), name != scorer, name)
    return (0, -2, False, "")  # sorting is stable: in the input's order


def _array(values: list[Any], before: pa.DataType | None, *, is_ours: bool) -> pa.Array:
    """Values of one column, of the type that there was before if they fit."""
    values = [_plain(value) for value in values]
    if before is not None and not pa.types.is_null(before):
        try:
            return _exactly(values, before)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError):
            pass
    kind = _common(before or pa.null(), _inferred(values, is_ours=is_ours))
    try:
        return _exactly(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([_as_text(value) for value in values], pa.string())


def _exactly(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array([_as_text(value) for value in values], kind)
    if pa.types.is_map(kind):
        values = [list(value.items()) if isinstance(value, Mapping) else value for value in values]
    if pa.types.is_integer(kind) and any(isinstance(value, float | bool) for value in values):
        raise TypeError("an integer is neither a fraction nor a truth value")
    return pa.array(values, kind)


def _inferred(values: list[Any], *, is_ours: bool) -> pa.DataType:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, Mapping) for value in present):
        is_rates = is_ours and all(isinstance(each, int | float) for value in present for each in value.values())
        return RATES if is_rates else pa.string()
    try:
        kind: pa.DataType = pa.array(present).type
    except (pa.ArrowException, OverflowError):
        return pa.string()
    return pa.string() if _has_empty_struct(kind) else kind


def _has_empty_struct(kind: pa.DataType) -> bool:
    """Whether Parquet cannot write it."""
    return pa.types.is_nested(kind) and (
        kind.num_fields == 0 or any(_has_empty_struct(kind.field(index).type) for index in range(kind.num_fields))
    )


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """A type that holds both."""
    try:
        schemas = [pa.schema([("", first)]), pa.schema([("", second)])]
        kind: pa.DataType = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()
    is_mixed = pa.types.is_boolean(first) != pa.types.is_boolean(second) and not (
        pa.types.is_null(first) or pa.types.is_null(second)
    )
    return pa.string() if is_mixed else kind


def _plain(value: Any) -> Any:
    """A list of mappings may have empty ones, which no file of columns holds."""
    return None if isinstance(value, Mapping) and not value else value


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"))
