"""Shards keep every row once, whatever kind of output is made of them."""

import csv
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_serve.offline.columns import RATES, check_names
from plumbline_serve.offline.facts import RunFacts, ScorerFacts
from plumbline_serve.offline.outputs import Output, open_scored
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.shards import ShardFolder
from tests.serve.offline.samples import FACTS


def scored(number: int, scores: dict[str, Any] | None = None, **columns: Any) -> Scored:
    result = {"id": str(number), "status": "ok", "scores": {"size": {"value": 1.0 + number}} | (scores or {})}
    return Scored(Row(number, f"{number}.png", text=f"text {number}", columns=columns), result)


def table_of(tmp_path: Path, *shards: list[Scored], facts: RunFacts = FACTS, types: Any = None) -> pa.Table:
    folder = ShardFolder(tmp_path / "out", facts, types or {})
    for each in shards:
        folder.write(each)
    Output.parse(tmp_path / "out").join(folder)
    return pa.concat_tables([pq.read_table(each.path) for each in folder.shards()])


def test_scores_and_their_details_are_columns(tmp_path: Path) -> None:
    words = [{"text": "text", "start": 0, "end": 4, "attribution": -0.5, "misaligned": True}]
    table = table_of(tmp_path, [scored(0, {"match": {"value": 0.5, "cosine": 0.25, "words": words}}, seed=7)])
    assert table.column_names == [
        "row", "seed", "image", "text", "size", "match", "match.cosine", "match.truncated", "match.words",
    ]  # fmt: skip
    [line] = table.to_pylist()
    assert line == {
        "row": 0, "seed": 7, "image": "0.png", "text": "text 0", "size": 1.0, "match": 0.5, "match.cosine": 0.25,
        "match.truncated": False, "match.words": words,
    }  # fmt: skip
    assert pa.types.is_list(table.schema.field("match.words").type)


def test_what_made_the_scores_stands_in_the_file(tmp_path: Path) -> None:
    table = table_of(tmp_path, [scored(0)])
    document = json.loads(table.schema.metadata[b"plumbline"])
    assert document["scorers"]["size"]["conventions"] == {"unit": "byte"}
    assert document["scorers"]["size"]["weights"] == {"size/image": "00ff"}


def test_details_that_come_late_are_columns_of_every_shard(tmp_path: Path) -> None:
    late = {"match": {"value": 0.5, "rates": {"colour": 1.0, "shape": 0.5}, "answers": [{"p_yes": 0.5}]}}
    table = table_of(tmp_path, [scored(0)], [scored(1, late)], [scored(2)])
    assert table.column("match.rates").to_pylist() == [None, [("colour", 1.0), ("shape", 0.5)], None]
    assert table.schema.field("match.rates").type == RATES
    assert table.column("match.answers").to_pylist() == [None, [{"p_yes": 0.5}], None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1, 2], [1, 2], id="whole numbers"),
        pytest.param([1, 2.5], [1.0, 2.5], id="a fraction behind a whole number"),
        pytest.param([2.5, 1], [2.5, 1.0], id="a whole number behind a fraction"),
        pytest.param([None, "a"], [None, "a"], id="nothing at first"),
        pytest.param([1, "a"], ["1", "a"], id="a text behind a number"),
        pytest.param([True, 2], ["true", "2"], id="a number behind a truth value"),
        pytest.param([["a"], []], [["a"], []], id="lists"),
        pytest.param([[], ["a"]], [[], ["a"]], id="an empty list first"),
        pytest.param([{"a": []}, {"b": 1}], ['{"a":[]}', '{"b":1}'], id="mappings are JSON"),
        pytest.param([[{}], [{}]], ["[{}]", "[{}]"], id="what no file of columns holds is JSON"),
        pytest.param([2**70, 1], [str(2**70), "1"], id="beyond 64 bits"),
        pytest.param([{}, {}], [None, None], id="an empty mapping"),
    ],
)
@pytest.mark.parametrize("is_one_shard", [True, False])
def test_a_column_has_one_type_whatever_comes(tmp_path: Path, values: Any, expected: Any, is_one_shard: bool) -> None:
    rows = [scored(number, extra=value) for number, value in enumerate(values)]
    shards = [rows] if is_one_shard else [[row] for row in rows]
    assert table_of(tmp_path, *shards).column("extra").to_pylist() == expected


def test_columns_of_the_input_do_not_hide_scores(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"size": "large", "row": 17, "match.words": "x", "input.row": 3, "input.colour": "red"}
    table = table_of(tmp_path, [scored(0, **columns)])
    [line] = table.to_pylist()
    assert (line["size"], line["row"]) == (1.0, 0)
    assert (line["input.size"], line["input.row"], line["input.match.words"]) == ("large", 17, "x")
    assert (line["input.input.row"], line["input.colour"]) == (3, "red")  # as the output of a run has it


def test_scorers_whose_columns_would_have_one_name_are_not_run_together() -> None:
    names = ("classifier:a", "classifier:ab", "classifier:a.class")
    check_names(RunFacts(scorers={name: ScorerFacts() for name in names[:2]}))
    with pytest.raises(InvalidFieldError, match="may have one name"):
        check_names(RunFacts(scorers={name: ScorerFacts() for name in names}))


def test_numbers_by_name_are_json_where_they_are_no_rates(tmp_path: Path) -> None:
    table = table_of(tmp_path, [scored(0, box={"x": 1, "y": 2})])
    assert table.column("box").to_pylist() == ['{"x":1,"y":2}']


def test_dates_and_decimals_are_text_in_csv(tmp_path: Path) -> None:
    output = Output.parse(tmp_path / "out.csv")
    folder = ShardFolder(output.parts, FACTS, {})
    folder.write([scored(0, day=date(2026, 11, 29), price=Decimal("1.10"), tags=["a"])])
    output.join(folder)
    [line] = csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines())
    assert (line["day"], line["price"], line["tags"]) == ("2026-11-29", "1.10", '["a"]')


def test_types_of_the_input_pass_through(tmp_path: Path) -> None:
    size = pa.struct({"width": pa.int16(), "height": pa.int16()})
    types = {"seed": pa.int32(), "when": pa.timestamp("us"), "kind": pa.dictionary(pa.int8(), pa.string()), "px": size}
    pictures = {
        "picture": pa.binary(), "hash": pa.binary(4), "other": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "several": pa.list_(pa.binary()),
    }  # fmt: skip
    row: dict[str, Any] = {"seed": 5, "kind": "a", "px": {"width": 1, "height": 2}}
    table = table_of(tmp_path, [scored(0, **row)], [scored(1, **row)], types=types | pictures)
    assert {name: table.schema.field(name).type for name in types} == types
    assert not pictures.keys() & set(table.column_names)
    assert table.select(list(row)).to_pylist() == [row, row]


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
def test_every_kind_of_output_reads_back_alike(tmp_path: Path, name: str) -> None:
    words = [{"text": 'é, "x"', "start": 0, "end": 4, "attribution": -0.1, "misaligned": True}]
    output = Output.parse(tmp_path / name)
    folder = ShardFolder(output.parts, FACTS, {})
    folder.write([scored(0, {"match": {"value": 1 / 3, "words": words, "rates": {"a": 1.0}}}, seed=1)])
    folder.write([scored(1, seed=2)])
    output.join(folder)
    table = open_scored(output.path)
    assert table.facts == FACTS
    first, second = table.lines()
    assert first["match"] == 1 / 3
    assert first["match.words"] == words
    assert first["match.rates"] == {"a": 1.0}
    assert (second["size"], second["match"], second["image"]) == (2.0, None, "1.png")
    assert str(second["seed"]) == "2"
    assert [line["size"] for line in table.lines(["size"])] == [1.0, 2.0]
    assert not (tmp_path / f"{name}.parts").exists()


def test_what_is_no_output_of_ours_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"clipscore": [0.5]}), tmp_path / "other.parquet")
    (tmp_path / "other.csv").write_text("clipscore\n0.5\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name in ("other.parquet", "other.csv", "empty", "none.parquet"):
        with pytest.raises(InvalidFieldError):
            open_scored(tmp_path / name)
    with pytest.raises(InvalidFieldError):
        Output.parse(tmp_path / "scores.xlsx")


def test_a_shard_that_is_missing_is_noticed(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, FACTS, {})
    for number in range(3):
        folder.write([scored(number)])
    folder.shards()[1].path.unlink()
    with pytest.raises(InvalidFieldError, match="lacks the rows from 1 to 2"):
        folder.shards()


@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (1, 0)], ids=["a gap", "twice", "another order"])
def test_rows_that_do_not_follow_each_other_are_not_written(tmp_path: Path, numbers: tuple[int, int]) -> None:
    folder = ShardFolder(tmp_path, FACTS, {})
    with pytest.raises(PlumblineError, match="another order"):
        folder.write([scored(number) for number in numbers])
    assert folder.shards() == []


def test_numbers_beyond_doubles_are_not_written_as_scores(tmp_path: Path) -> None:
    facts = RunFacts(scorers={"size": ScorerFacts()})
    table = table_of(tmp_path, [scored(0)], [scored(1)], facts=facts)
    assert table.column("size").type == pa.float64()
    assert orjson.loads(table.schema.metadata[b"plumbline"])["version"] == 1
