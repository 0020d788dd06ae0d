"""`plumbline calibrate`: the numbers of the pure functions, kept where it is said, and files that are wrong."""

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from plumbline_models.decisions.conformal import calibrate
from plumbline_models.decisions.correlation import within_prompts
from plumbline_serve.cli.main import cli
from plumbline_serve.store import Store

SCORES = [((index * 37) % 101) / 101 for index in range(60)]
LABELS = [score > 0.3 for score in SCORES]


def run(file: Path, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["calibrate", str(file), *arguments], env=environment)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """As somebody writes labels beside the output of `plumbline batch`."""
    file = tmp_path / "labelled.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["image", "text", "clipscore", "label", "look"])
        writer.writeheader()
        for index, (score, label) in enumerate(zip(SCORES, LABELS, strict=True)):
            look = "round" if index % 2 else "square"
            writer.writerow({"image": f"{index}.png", "text": "a", "clipscore": score, "label": label, "look": look})
        writer.writerow({"image": "broken.png", "text": "a", "clipscore": "", "label": "no", "look": "round"})
    return file


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "judged.jsonl"
    rows = [{"score": s, "stars": s + (index % 3), "text": index % 10} for index, s in enumerate(SCORES)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.mark.parametrize("direction", ["keep_good", "reject_bad"])
def test_the_numbers_are_those_of_the_pure_function(table: Path, direction: Any) -> None:
    ran = run(table, "--scorer", "clipscore", "--alpha", "0.1", "--direction", direction, "--json")
    assert ran.exit_code == 0, ran.stderr
    found, expected = json.loads(ran.stdout), calibrate(SCORES, LABELS, alpha=0.1, direction=direction)
    assert found == {
        "threshold": expected.value,
        "k": expected.k,
        "num_used": expected.num_used,
        "coverage": expected.coverage,
        "coverage_p05": expected.coverage_p05,
    }


def test_groups_have_rows_and_what_was_left_out_is_said(table: Path) -> None:
    ran = run(table, "--scorer", "clipscore", "--alpha", "0.2", "--group-column", "look")
    assert ran.exit_code == 0, ran.stderr
    assert [line.split("\t")[0] for line in ran.stdout.splitlines()] == ["group", "(all)", "square", "round"]
    assert "1 rows without a score or a label are left out." in ran.stderr


@pytest.mark.parametrize("as_json", [True, False])
def test_rows_of_no_group_do_not_take_the_place_of_all(tmp_path: Path, as_json: bool) -> None:
    file = tmp_path / "labelled.jsonl"
    looks = [None if index % 3 else "round" for index in range(60)]
    rows = [{"score": s, "label": 1, "look": look} for s, look in zip(SCORES, looks, strict=True)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    arguments = ("--scorer", "clipscore", "--alpha", "0.2", "--group-column", "look")
    whole = calibrate(SCORES, [True] * 60, alpha=0.2, direction="keep_good")
    if as_json:
        found = json.loads(run(file, *arguments, "--json").stdout)
        assert (found["threshold"], found["num_used"]) == (whole.value, 60)
        assert {name: each["num_used"] for name, each in found["groups"].items()} == {"round": 20, "": 40}
    else:
        lines = [line.split("\t") for line in run(file, *arguments).stdout.splitlines()]
        assert [(line[0], line[3]) for line in lines[1:]] == [("(all)", "60"), ("round", "20"), ("", "40")]


def test_too_few_labels_are_no_success(table: Path) -> None:
    ran = run(table, "--scorer", "clipscore", "--alpha", "0.001", "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["threshold"] is None
    assert "at least 999 labels" in json.loads(ran.stdout)["detail"]


def test_the_correlation_with_people_is_that_within_prompts(lines: Path) -> None:
    ran = run(lines, "--scorer", "clipscore", "--human", "stars", "--json")
    assert ran.exit_code == 0, ran.stderr
    stars = [score + index % 3 for index, score in enumerate(SCORES)]
    expected = within_prompts(SCORES, stars, [index % 10 for index in range(60)])
    found = json.loads(ran.stdout)
    assert (found["correlation"], found["correlation_interval"]) == (expected.value, [expected.low, expected.high])
    assert (found["num_pairs"], found["num_prompts"]) == (60, 10)
    table = run(lines, "--scorer", "clipscore", "--human", "stars").stdout
    assert "largest certified N" in table


def test_rows_without_a_prompt_are_of_no_prompt_together(tmp_path: Path, lines: Path) -> None:
    more = [{"score": 100.0 * index, "stars": 100.0 * index, "text": text} for index, text in enumerate((None, "") * 3)]
    file = tmp_path / "more.jsonl"
    file.write_text(lines.read_text(encoding="utf-8") + "\n" + "\n".join(map(json.dumps, more)), encoding="utf-8")
    arguments = ("--scorer", "clipscore", "--human", "stars", "--json")
    assert run(file, *arguments).stdout == run(lines, *arguments).stdout


def test_where_lower_is_better_the_correlation_is_that_of_choosing_the_lowest(lines: Path) -> None:
    better, worse = (
        json.loads(run(lines, "--scorer", scorer, "--human", "stars", "--json").stdout)
        for scorer in ("clipscore", "nsfw")
    )
    assert worse["correlation"] == -better["correlation"]
    assert worse["correlation_interval"] == pytest.approx([-end for end in reversed(better["correlation_interval"])])


def test_a_name_keeps_it_in_the_store_of_the_configuration(table: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    environment = {"PLUMBLINE_STORE": store, "PLUMBLINE_BACKEND": "fake", "PLUMBLINE_PRECISION": "fp32"}
    ran = run(table, "--scorer", "clipscore", "--name", "launch", "--json", **environment)
    assert ran.exit_code == 0, ran.stderr
    [kept] = asyncio.run(Store(SecretStr(store)).all_of("calibration"))
    expected = calibrate(SCORES, LABELS, alpha=0.05, direction="keep_good")
    assert (kept.name, kept.bound_to.scorer) == ("launch", "clipscore")
    assert kept.document["threshold"] == expected.value == json.loads(ran.stdout)["threshold"]
    again = run(table, "--scorer", "clipscore", "--name", "launch", "--alpha", "0.2", **environment)
    assert "Kept as launch, for clipscore" in again.stderr
    unknown = run(table, "--scorer", "other", "--score-column", "clipscore", "--name", "launch", **environment)
    assert unknown.exit_code != 0


REWARD = {"reward": {"method": "sum", "terms": [{"scorer": "clipscore", "weight": 2.0}, {"scorer": "qualiclip"}]}}


@pytest.mark.parametrize("as_file", [False, True])
def test_a_combination_is_calibrated_by_what_it_is_made_of(table: Path, tmp_path: Path, as_file: bool) -> None:
    store, spec = f"sqlite:///{tmp_path}/store.db", json.dumps(REWARD)
    if as_file:
        (tmp_path / "reward.json").write_text(spec, encoding="utf-8")
        spec = str(tmp_path / "reward.json")
    arguments = ("--combine", spec, "--score-column", "clipscore", "--json")
    environment = {"PLUMBLINE_STORE": store, "PLUMBLINE_BACKEND": "fake", "PLUMBLINE_PRECISION": "fp32"}
    shown = run(table, *arguments)
    assert shown.exit_code == 0, shown.stderr
    ran = run(table, *arguments, "--name", "launch", **environment)
    assert ran.exit_code == 0, ran.stderr
    [kept] = asyncio.run(Store(SecretStr(store)).all_of("calibration"))
    expected = calibrate(SCORES, LABELS, alpha=0.05, direction="keep_good").value
    found = json.loads(ran.stdout)
    assert kept.bound_to.scorer == found["scorer"] == "reward"
    assert kept.document["threshold"] == found["threshold"] == json.loads(shown.stdout)["threshold"] == expected
    assert [term["weight"] for term in found["combine"]["reward"]["terms"]] == [2.0, 1.0]


@pytest.mark.parametrize("arguments", [[], ["--scorer", "clipscore", "--combine", json.dumps(REWARD)]])
def test_it_is_one_scorer_or_one_combination(table: Path, arguments: list[str]) -> None:
    ran = run(table, *arguments)
    assert ran.exit_code != 0
    assert "A calibration must have either scorer or combine." in str(ran.exception)


WRONG = [
    ("a.csv", "clipscore,label\nhigh,true\n", [], "Row 1 of {file} has no number in the column clipscore."),
    ("a.csv", "clipscore,label\n0.5,perhaps\n", [], "Row 1 of {file} has no label in the column label"),
    ("a.csv", "clipscore\n0.5\n", [], "Row 1 of {file} has no column label."),
    ("a.jsonl", '{"score": true, "label": 1}', [], "Row 1 of {file} has no number in the column score."),
    ("a.jsonl", "[1]", [], "Line 1 of {file} is no object."),
    ("a.jsonl", "{", [], "Line 1 of {file} is not JSON."),
    ("a.csv", "clipscore,label\n0.5,1\n", ["--direction", "up"], "A direction is keep_good or reject_bad"),
]


@pytest.mark.parametrize(("name", "content", "arguments", "sentence"), WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, content: str, arguments: list[str], sentence: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    ran = run(file, "--scorer", "clipscore", *arguments)
    assert ran.exit_code != 0
    assert sentence.format(file=file) in str(ran.exception)


def test_a_service_that_is_not_there_is_said(table: Path) -> None:
    ran = run(table, "--scorer", "clipscore", "--name", "launch", "--server", "http://127.0.0.1:1")
    assert ran.exit_code != 0
    assert "was not reached" in str(ran.exception)
