"""`plumbline probe`: what the embedded networks hear of fresh scenes, and what is said of files that are wrong."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from plumbline_serve.cli.main import cli
from plumbline_serve.cli.probe_command import Heard, _judged, _rows
from plumbline_training.evaluation.fields import render
from plumbline_training.sampling import sample_scene

NUM_SCENES = 40


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of two objects that differ in colour and shape, and what they show."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(5)
    rows: list[dict[str, str]] = []
    while len(rows) < NUM_SCENES:
        scene = sample_scene(rng)
        looks = [group.look for group in scene.groups]
        if [group.count for group in scene.groups] != [1, 1] or looks[0].colour == looks[1].colour:
            continue
        if looks[0].shape == looks[1].shape:
            continue
        out = io.BytesIO()
        Image.fromarray(render(scene)).save(out, "PNG")
        (folder / f"{len(rows)}.png").write_bytes(out.getvalue())
        text = " and ".join(f"a {look.colour} {look.shape}" for look in looks)
        rows.append({"image": f"{len(rows)}.png", "text": text})
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


def test_a_wrong_colour_is_heard_and_the_order_of_clauses_hardly(pairs):
    ran = CliRunner().invoke(cli, ["probe", str(pairs), "--scorers", "clipscore", "--json"])
    assert ran.exit_code == 0, ran.stderr
    found = {row["probe"]: Heard(**row) for row in json.loads(ran.stdout)["probes"]}
    assert set(found) == {"attribute_swap", "one_word", "shuffle", "clauses"}
    assert found["one_word"].num == NUM_SCENES
    assert found["one_word"].right_above > 0.9
    assert found["one_word"].change > found["shuffle"].change
    assert found["clauses"].change < found["one_word"].change


def test_people_get_a_table(pairs):
    ran = CliRunner().invoke(cli, ["probe", str(pairs), "--scorers", "clipscore"], env={"COLUMNS": "120"})
    assert ran.exit_code == 0, ran.stderr
    assert "attribute_swap" in ran.stdout
    assert "right above" in ran.stdout


def test_a_text_may_hold_other_separators_of_lines(tmp_path):
    rows = [{"image": "1.png", "text": "a red cup\u2028on a table"}, {"image": "2.png", "text": "two\x85dogs"}]
    lines, table = tmp_path / "pairs.jsonl", tmp_path / "pairs.csv"
    lines.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8-sig")
    table.write_text('image,text\n1.png,"a red cup\u2028on a table"\n2.png,two\x85dogs\n', encoding="utf-8-sig")
    assert list(_rows(lines)) == list(_rows(table)) == rows


def test_a_csv_is_read_and_what_is_wrong_with_a_file_is_said(pairs, tmp_path):
    table = pairs.with_suffix(".csv")
    table.write_text("image,text\n0.png,a red ring\n1.png,a blue star\n", encoding="utf-8")
    assert CliRunner().invoke(cli, ["probe", str(table), "--scorers", "clipscore"]).exit_code == 0
    for name, text, said in (
        ("short.jsonl", '{"image": "0.png", "text": "a"}', "at least 2"),
        ("lacking.jsonl", '{"image": "0.png"}', "no image or no text"),
        ("broken.jsonl", "{", "is no JSON"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / "0.png").write_bytes(b"")
        ran = CliRunner().invoke(cli, ["probe", str(tmp_path / name)])
        assert said in str(ran.exception), ran.output
    ran = CliRunner().invoke(cli, ["probe", str(pairs), "--scorers", "qualiclip"])
    assert "No scorer among these" in str(ran.exception)


def test_verdicts_are_by_what_is_heard():
    assert _judged("s", "attribute_swap", [1.0, -1.0, 0.0, 0.0]).verdict == "overstable"
    assert _judged("s", "attribute_swap", [1.0, 0.5, 0.2, -0.1]).verdict == ""
    assert _judged("s", "clauses", [0.5, -0.5]).verdict == "oversensitive"
    assert _judged("s", "clauses", [0.1, -0.1]).verdict == ""
