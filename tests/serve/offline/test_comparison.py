"""Two outputs side by side: hand-worked deltas, intervals that cover, and what does not compare."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap
from typer.testing import CliRunner, Result

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.cli.main import cli
from plumbline_serve.offline.comparison.bootstrap import interval
from plumbline_serve.offline.facts import RunFacts, ScorerFacts
from plumbline_serve.offline.outputs import Output
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.shards import ShardFolder
from tests.services import encoded, picture

FACTS = RunFacts(
    scorers={
        "match": ScorerFacts(conventions={"scale": "2.5"}, weights={"e": "00"}),
        "unsafe": ScorerFacts(weights={"u": "11"}, higher_is_better=False),
    }
)
BEFORE = {("fox", 1): (0.5, 0.1), ("fox", 2): (0.6, 0.1), ("cat", 1): (0.4, 0.5), ("dog", 1): (0.3, 0.3)}
AFTER = {("fox", 1): (0.7, 0.1), ("fox", 2): (0.6, 0.2), ("cat", 1): (0.3, 0.1), ("owl", 1): (0.9, 0.9)}
TAGS = {"fox": ["animal", "red"], "cat": ["animal"], "dog": ["animal"], "owl": ["bird"]}


def write(path: Path, values: Any, facts: RunFacts = FACTS) -> Path:
    output = Output.parse(path)
    folder = ShardFolder(output.parts, facts, {})
    rows = []
    for number, ((text, seed), scores) in enumerate(values.items()):
        row = Row(number, f"{text}-{seed}.png", text=text, columns={"seed": seed, "tag": TAGS.get(text)})
        found = {name: {"value": value} for name, value in zip(facts.scorers, scores, strict=True)}
        rows.append(Scored(row, {"status": "ok", "scores": found}))
    folder.write(rows)
    output.join(folder)
    return path


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "before.parquet", BEFORE), write(tmp_path / "after.jsonl", AFTER)


def test_pairs_of_prompt_and_seed_are_compared(sides) -> None:
    ran = compare(*sides, "--json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert (found["num_pairs"], found["num_only_before"], found["num_only_after"]) == (3, 1, 1)
    match, unsafe = found["scorers"]
    assert match["mean_delta"] == pytest.approx((0.2 + 0.0 - 0.1) / 3)
    assert (match["win_rate"], match["num_ties"]) == (0.5, 1)
    assert unsafe["mean_delta"] == pytest.approx((0.0 - 0.1 + 0.4) / 3)  # lower is better
    assert {each["tag"]: (each["num"], each["win_rate"]) for each in match["tags"]} == {
        "animal": (3, 0.5), "red": (2, 0.75),
    }  # fmt: skip
    [worst] = match["regressions"]
    assert (worst["prompt"], worst["image_after"], worst["delta"]) == ("cat", "cat-1.png", pytest.approx(-0.1))
    assert [each["prompt"] for each in unsafe["regressions"]] == ["fox"]


@pytest.mark.parametrize(
    ("floors", "status"),
    [
        pytest.param(["0.0"], 0, id="all are above"),
        pytest.param(["0.05"], 1, id="one is below"),
        pytest.param(["0.05", "match=0.03"], 0, id="one has a floor of its own"),
        pytest.param(["unsafe=0.2"], 1, id="only one has a floor"),
        pytest.param(["-0.2"], 0, id="a floor below 0"),
    ],
)
def test_the_exit_status_says_whether_something_is_below(sides, floors: list[str], status: int) -> None:
    ran = compare(*sides, *(word for floor in floors for word in ("--fail-below", floor)))
    assert ran.exit_code == status
    assert ("is below" in ran.stderr) == bool(status)


@pytest.mark.parametrize(
    ("floor", "status"),
    [(None, 0), ("-1", 1), ("match=-1", 0), ("unsafe=-1", 1)],
    ids=["none", "all", "one", "another"],
)
def test_a_scorer_that_fails_on_all_of_the_second_passes_no_gate(
    sides, tmp_path: Path, floor: str | None, status: int
) -> None:
    after = {key: (match if key != ("fox", 2) else None, None) for key, (match, _) in AFTER.items()}
    arguments = [
        sides[0],
        write(tmp_path / "failed.parquet", after),
        *([] if floor is None else ["--fail-below", floor]),
    ]
    ran = compare(*arguments)
    assert ran.exit_code == status, ran.output
    assert "match: 1 pairs have a value in the first alone" in ran.stderr
    assert "unsafe: no pair has a value in the second" in ran.stderr
    assert ("unsafe: the second output has no value of it." in ran.stderr) == bool(status)
    found = json.loads(compare(*arguments, "--json").stdout)
    assert (found["lost"], [each["num_lost"] for each in found["scorers"]]) == (["unsafe"], [1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fail-below", "much"],
        ["--fail-below", "vibes=1"],
        ["--scorers", "vibes"],
        ["--by", "vibes"],
        ["--tag", "vibes"],
    ],
)
def test_wrong_usage_is_refused(sides, arguments: list[str]) -> None:
    assert isinstance(compare(*sides, *arguments).exception, InvalidFieldError)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"weights": {"e": "01"}}, "weights of match differ", id="weights"),
        pytest.param({"conventions": {"scale": "1"}}, r"conventions of match differ \(scale\)", id="conventions"),
    ],
)
def test_other_weights_or_conventions_are_refused(tmp_path: Path, sides, changed: Any, said: str) -> None:
    other = RunFacts(scorers={**FACTS.scorers, "match": FACTS.scorers["match"].model_copy(update=changed)})
    path = write(tmp_path / "other.parquet", AFTER, other)
    with pytest.raises(InvalidFieldError, match=said):
        raise compare(sides[0], path).exception or AssertionError("nothing was refused")
    assert compare(sides[0], path, "--scorers", "unsafe").exit_code == 0


def test_another_precision_is_said_and_compared(tmp_path: Path, sides) -> None:
    other = RunFacts(
        scorers={**FACTS.scorers, "match": FACTS.scorers["match"].model_copy(update={"precision": "bf16"})}
    )
    ran = compare(sides[0], write(tmp_path / "other.parquet", AFTER, other))
    assert ran.exit_code == 0
    assert "bf16" in ran.stderr


def test_several_rows_of_one_key_go_with_each_other_in_order(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", {("fox", 1): (0.1, 0.0), ("fox", 2): (0.2, 0.0)})
    second = write(tmp_path / "b.parquet", {("fox", 5): (0.2, 0.0), ("fox", 6): (0.4, 0.0)})
    found = json.loads(compare(first, second, "--by", "text", "--json").stdout)
    assert found["num_pairs"] == 2
    assert found["scorers"][0]["mean_delta"] == pytest.approx(0.15)
    assert isinstance(compare(first, second).exception, InvalidFieldError)  # the seeds differ


def test_the_page_shows_what_became_worst(tmp_path: Path) -> None:
    facts = FACTS.model_copy(update={"images": str(tmp_path)})
    (tmp_path / "cat-1.png").write_bytes(encoded(picture(1), "PNG"))
    sides = write(tmp_path / "a.parquet", BEFORE, facts), write(tmp_path / "b.parquet", AFTER, facts)
    assert compare(*sides, "--report", tmp_path / "page.html").exit_code == 0
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == 2
    assert "default-src 'none'" in html


def test_the_interval_is_that_of_scipy_where_every_prompt_has_one_image() -> None:
    deltas = np.random.default_rng(1).normal(0.1, 1.0, 80)
    low, high = interval(deltas, [str(n) for n in range(80)], seed=1, resamples=20_000)
    reference = bootstrap((deltas,), np.mean, method="percentile", n_resamples=20_000, rng=2).confidence_interval
    assert (low, high) == pytest.approx(reference, abs=0.02)  # of draws; the interval is 0.43 wide


def test_images_of_one_prompt_are_no_more_sure_than_one() -> None:
    deltas = np.random.default_rng(2).normal(size=40)
    once = interval(deltas, [str(n) for n in range(40)], seed=3)
    often = interval(np.repeat(deltas, 25), [str(n) for n in range(40) for _ in range(25)], seed=3)
    assert often == pytest.approx(once)


def test_the_same_seed_gives_the_same_interval() -> None:
    deltas, prompts = np.arange(10.0), [str(n) for n in range(10)]
    assert interval(deltas, prompts, seed=4) == interval(deltas, prompts, seed=4)
    assert interval(deltas, prompts, seed=4) != interval(deltas, prompts, seed=5)
    assert interval(np.array([0.5, 0.7]), ["a", "a"], seed=0) == (0.6, 0.6)
