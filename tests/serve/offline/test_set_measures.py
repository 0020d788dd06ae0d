"""All images of a run as one set: the values of the set itself, of an even sample where there are too many."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.sets.measures import Asked, diversity_of
from plumbline_models.sets.vectors import MAX_SET, unit_rows
from plumbline_serve.offline.batch import Job, run
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.outputs import Output, open_scored
from plumbline_serve.offline.progress import LineMeter, Meter, unshown
from plumbline_serve.offline.readers import open_input
from plumbline_serve.offline.report.set_section import MAX_SETS, set_notes, set_section, shown_lines, shown_rows
from plumbline_serve.offline.rows import Row, RowReading
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.sets import MAX_GROUPS, KeptMembers, SetOptions, SetsDocument, measured_sets
from plumbline_serve.offline.sets.kept_members import priority_of, read_members
from plumbline_serve.offline.shards import ShardFolder
from tests.serve.offline.samples import FACTS, SizeRunner, member

NUM_ROWS = 30
SET_FACTS = FACTS.model_copy(update={"set_encoder": "size/image"})


def texts_of(number: int) -> str:
    return "a fox" if number % 3 else "a red fox"


def scored(number: int, **columns: object) -> Scored:
    row = Row(number, f"{number}.png", text=texts_of(number), columns=columns)
    result = {"status": "ok", "scores": {"size": {"value": 1.0}}}
    return Scored(row, result, member(number, row.text))


def written(folder: Path, rows: list[Scored], shard_rows: int, column: str | None = None) -> SetsDocument:
    """The values of rows that were written in shards."""
    kept, shards = KeptMembers(folder, column), ShardFolder(folder, SET_FACTS, {})
    for first in range(0, len(rows), shard_rows):
        kept.write(rows[first : first + shard_rows])
        shards.write(rows[first : first + shard_rows])
    return measured_sets(kept.paths, SET_FACTS, SetOptions(column))


def test_the_values_are_those_of_the_set_itself(tmp_path: Path) -> None:
    rows = [scored(number) for number in range(NUM_ROWS)]
    document = written(tmp_path, rows, shard_rows=7)
    members = [each.member for each in rows if each.member is not None]
    unit = unit_rows([each.image for each in members])
    texts = unit_rows([each.text for each in members if each.text is not None])
    expected = diversity_of(unit, Asked(), contents=[each.content for each in members], texts=texts)
    [values] = document.sets
    assert (document.encoder, document.weights) == ("size/image", "00ff")
    assert (values.group, values.num_images, values.n) == (None, NUM_ROWS, NUM_ROWS)
    assert (values.vendi, values.vendi_centred) == (expected.vendi, expected.vendi_centred)
    assert values.mean_pairwise == expected.mean_pairwise
    assert values.duplicates == [list(range(first, NUM_ROWS, 5)) for first in range(5)]
    assert values.identical == [list(range(first, NUM_ROWS, 10)) for first in range(10)]
    assert values.sce is not None
    assert values.sce == expected.sce


def test_how_many_sets_are_measured_is_shown(source: Path, tmp_path: Path) -> None:
    said: list[str] = []

    @contextmanager
    def meter(total: int | None, done: int, what: str = "rows") -> Iterator[Meter]:
        shown = LineMeter(total, done, what=what, write=said.append)
        yield shown
        shown.close()

    job = Job(Output.parse(tmp_path / "out"), {}, sets=SetOptions("model"))
    with job.begun():
        run(job, open_input(source, RowReading(source.parent)), SizeRunner(SET_FACTS, makes_members=True), meter)
    assert ["30 of 30 rows" in said[0], "3 of 3 sets measured" in said[1]] == [True, True]


def test_a_set_with_an_image_without_a_prompt_has_no_sce(tmp_path: Path) -> None:
    rows = [scored(0), Scored(Row(1), {"status": "ok", "scores": {}}, member(1, None))]
    assert written(tmp_path, rows, shard_rows=2).sets[0].sce is None


def test_groups_are_measured_by_themselves(tmp_path: Path) -> None:
    model = {0: "first", 1: "second", 2: None, 3: 7}
    rows = [scored(number, model=model[number % 4]) for number in range(NUM_ROWS)]
    document = written(tmp_path, rows, shard_rows=4, column="model")
    assert [each.group for each in document.sets] == [None, "first", "second", "7"]
    assert [each.num_images for each in document.sets] == [NUM_ROWS, 8, 8, 7]
    for each, first in zip(document.sets[1:], (0, 1, 3), strict=True):
        numbers = range(first, NUM_ROWS, 4)
        unit = unit_rows([member(number, None).image for number in numbers])
        contents = [member(number, None).content for number in numbers]
        expected = diversity_of(unit, Asked(), contents=contents)
        assert (each.vendi, each.mean_pairwise) == (expected.vendi, expected.mean_pairwise)
        assert each.duplicates == [[numbers[at] for at in group] for group in expected.duplicates]
    by_text = written(tmp_path / "text", rows, shard_rows=4, column="text").sets
    assert {each.group: each.num_images for each in by_text[1:]} == {"a red fox": 10, "a fox": 20}


def test_of_too_many_an_even_sample_stands_for_all_however_the_run_was_cut(tmp_path: Path) -> None:
    num = 3 * MAX_SET
    rows = [scored(number, model=str(number % 2)) for number in range(num)]
    document = written(tmp_path / "a", rows, shard_rows=num, column="model")
    other = written(tmp_path / "b", rows, shard_rows=1000, column="model")
    assert document == other
    assert [(each.num_images, each.n) for each in document.sets] == [(num, MAX_SET), *[(num // 2, MAX_SET)] * 2]
    chosen = sorted(sorted(range(num), key=priority_of)[:MAX_SET])
    assert sorted(row for group in document.sets[0].duplicates for row in group) == chosen
    assert np.mean(chosen) == pytest.approx(num / 2, rel=0.03)
    alone = [Scored(each.row, each.result, each.member) for each in rows]
    kept = KeptMembers(tmp_path / "c", None)
    kept.write(alone)
    [path] = (tmp_path / "c").iterdir()
    assert MAX_SET <= read_members(path).num_rows < 3 * MAX_SET  # less than it was given
    assert "of 12,288" in shown_lines(document)[0][1]
    assert any("4,096 of them" in note for note in set_notes(document))


def test_groups_beyond_the_bound_are_counted_and_stand_in_the_whole(tmp_path: Path) -> None:
    rows = [scored(number, id=number) for number in range(MAX_GROUPS + 10)]
    document = written(tmp_path, rows, shard_rows=300, column="id")
    assert (len(document.sets), document.num_beyond) == (1 + MAX_GROUPS, 10)
    assert document.sets[0].n == MAX_GROUPS + 10
    assert document.sets[1].mean_pairwise is None  # of a single image there is no pair
    assert len(shown_lines(document)) == 1 + MAX_SETS
    assert any("10 images are of groups beyond" in note for note in set_notes(document))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(NUM_ROWS):
        if number % 7:
            (tmp_path / f"{number}.png").write_bytes(b"x" * (number + 1))
    path = tmp_path / "rows.jsonl"
    lines = [{"image": f"{n}.png", "text": texts_of(n), "model": "a" if n < 20 else "b"} for n in range(NUM_ROWS)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def go(source: Path, output: Path, runner: SizeRunner | None = None, *, resumes: bool = False) -> SetsDocument:

    options = SetOptions("model")
    job = Job(Output.parse(output), {"input": str(source)}, sets=options, resumes=resumes, shard_rows=4)
    with job.begun():
        reader = open_input(source, RowReading(source.parent))
        run(job, reader, runner or SizeRunner(SET_FACTS, makes_members=True), unshown)
    return SetsDocument.read(job.output.sets)


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out"])
def test_a_run_that_goes_on_has_the_sets_of_a_whole_one(source: Path, tmp_path: Path, name: str) -> None:
    text = source.read_text()
    source.write_text(text.replace('"25.png", "text": "a fox"', '"25.png", "text": "crash"'))
    with pytest.raises(PlumblineError, match="gone"):
        go(source, tmp_path / name)
    source.write_text(text)
    document = go(source, tmp_path / name, resumes=True)
    assert document == go(source, tmp_path / "whole.jsonl")
    assert [(each.group, each.num_images) for each in document.sets] == [(None, 25), ("a", 17), ("b", 8)]
    assert {line["row"] for line in open_scored(tmp_path / name).lines()} == {n for n in range(NUM_ROWS) if n % 7}


def test_what_a_kill_left_behind_is_no_member(source: Path, tmp_path: Path) -> None:
    """Members are written before their shard: those of a shard that never came are written again."""
    whole = go(source, tmp_path / "out")
    max((tmp_path / "out").glob("part-*")).unlink()
    assert go(source, tmp_path / "out", resumes=True) == whole
    min((tmp_path / "out").glob("members-*")).unlink()
    with pytest.raises(InvalidFieldError, match="lacks the encodings of rows 0 to 3"):
        go(source, tmp_path / "out", resumes=True)


def test_encodings_of_two_encoders_are_not_put_together(source: Path, tmp_path: Path) -> None:
    go(source, tmp_path / "out")
    facts = RunFacts(scorers=FACTS.scorers, set_encoder="other/image")
    with pytest.raises(InvalidFieldError, match="another encoder"):
        go(source, tmp_path / "out", SizeRunner(facts, makes_members=True), resumes=True)


def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sets.json").write_text("{}")
    with pytest.raises(InvalidFieldError, match="does not hold"):
        SetsDocument.read(tmp_path / "sets.json")
    with pytest.raises(InvalidFieldError, match="without --set"):
        SetsDocument.read(tmp_path / "none.json")


def test_the_page_shows_the_sets_and_takes_nobody_at_their_word(source: Path, tmp_path: Path) -> None:
    document = go(source, tmp_path / "out")
    hostile = replace(document.sets[1], group="<script>x</script>")
    document = document.model_copy(update={"sets": [document.sets[0], hostile]})
    assert len(shown_rows(document)) == 5 * 4
    html = "".join(set_section(document, {1: "data:image/jpeg;base64,AAAA"}))
    assert "All images together" in html
    assert "<script" not in html
    assert "row 1<" in html
    assert 'src="data:image/jpeg;base64,AAAA"' in html
    none = document.model_copy(update={"sets": []})
    assert "No image was scored" in "".join(set_section(none, {}))
