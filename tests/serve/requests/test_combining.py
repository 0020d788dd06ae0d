"""Several scores as one: the arithmetic against the authors' program, and combinations on the path of a request."""

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import InvalidFieldError, MissingTextError, PlumblineError, UnknownScorerError
from plumbline_models.core.protocols import Score
from plumbline_serve.messages import (
    Combination,
    EncodedImage,
    FilterRequest,
    Item,
    ItemFailure,
    RankRequest,
    ScoreRequest,
    Term,
    Threshold,
)
from plumbline_serve.requests.combining import EPSILON, Judge, harmonic_mean, place
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.requests.pipeline import Pipeline
from plumbline_serve.requests.ranking import rank
from plumbline_serve.requests.validation import Case

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "sets" / "mmhm.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in GOLDEN["cases"]}
BOTH = [Term("product", min=0.0, max=60.0), Term("mean", weight=3.0, min=5.0, max=25.0)]
MEAN = {"reward": Combination("harmonic", BOTH)}
SUM = {"total": Combination("sum", [Term("product"), Term("mean", weight=-0.5)])}


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline()


async def scored(pipeline: Pipeline, request: ScoreRequest) -> list[Any]:
    return list((await pipeline.score(request)).results)


async def judged(pipeline: Pipeline, policy: list[Threshold], items: list[Item], *, explain: bool = False) -> list[Any]:
    return list((await filter_items(pipeline, FilterRequest(policy, items, combine=SUM, explain=explain))).results)


def parts_of(name: str) -> list[list[float]]:
    """Each candidate's places between the bounds that the program used."""
    case = CASES[name]
    columns = []
    for metric, bounds in case["expected"]["bounds_used"].items():
        low, high = bounds["min"], bounds["max"]
        term = Term(metric, min=low if low < high else low - 1, max=high)  # of a constant metric all are the best
        columns.append([place(value, term, is_up=metric != "FID") for value in case["input"][metric]])
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("name", ["plain", "one_metric_constant", "reused_wide_bounds"])
def test_values_within_their_bounds_have_the_mean_of_the_authors_program(name: str) -> None:
    case = CASES[name]
    found = [harmonic_mean(parts, [1.0] * 4, case["input"]["eps"]) for parts in parts_of(name)]
    assert found == pytest.approx(case["expected"]["mmhm"], rel=GOLDEN["meta"]["rtol"])


def test_values_outside_of_their_bounds_are_clamped_where_the_program_leaves_its_range() -> None:
    case = CASES["reused_narrow_bounds_out_of_range"]
    found = [harmonic_mean(parts, [1.0] * 4, case["input"]["eps"]) for parts in parts_of(case["name"])]
    assert min(case["expected"]["mmhm"]) < 0
    assert all(case["input"]["eps"] <= value <= 1 + case["input"]["eps"] for value in found)


def test_a_weight_counts_a_part_as_often() -> None:
    assert harmonic_mean([0.2, 0.9], [2.0, 1.0]) == pytest.approx(harmonic_mean([0.2, 0.2, 0.9], [1.0] * 3))
    assert harmonic_mean([1.0], [0.1]) == pytest.approx(1 + EPSILON)


def test_where_lower_is_better_the_lower_bound_is_the_better_one() -> None:
    term = Term("nsfw", min=0.2, max=0.6)
    assert [place(value, term, is_up=False) for value in (0.1, 0.3, 0.7)] == pytest.approx([1.0, 0.75, 0.0])


async def test_combinations_stand_among_the_scores_with_their_terms(pipeline, observer, png):
    image = EncodedImage(png(10))
    reply = await pipeline.score(ScoreRequest([Item("0", image, "abc")], combine={**MEAN, **SUM}))
    scores = reply.results[0].scores
    assert scores["reward"].details == {"terms": {"product": 0.5, "mean": 0.25}}
    assert scores["reward"].value == pytest.approx(4 / (1 / 0.501 + 3 / 0.251))
    assert scores["total"] == Score(30.0 - 5.0, {"terms": {"product": 30.0, "mean": 10.0}})
    assert {name for name, _ in observer.scores} == {"product", "mean"}
    assert observer.combined_scores == [("harmonic", scores["reward"]), ("sum", scores["total"])]


async def test_scorers_of_terms_run_beside_those_that_are_named(pipeline, png):
    items = [Item("0", EncodedImage(png(10)), "abc")]
    reply = await pipeline.score(ScoreRequest(items, scorers=["mean"], combine=MEAN))
    assert list(reply.results[0].scores) == ["mean", "product", "reward"]


@pytest.mark.parametrize("named", [None, ["mean"]])
async def test_a_term_that_fails_is_the_error_of_the_combination_for_that_item(pipeline, png, named):
    image = EncodedImage(png(10))
    items = [Item("0", image, "abc"), Item("1", image, None), Item("2", image, "unlucky")]
    first, second, third = await scored(pipeline, ScoreRequest(items, scorers=named, combine=MEAN))
    assert isinstance(first.scores["reward"], Score)
    assert isinstance(second.scores["reward"], MissingTextError)
    assert second.scores["reward"].detail == "reward has no value: product needs a text."
    assert second.scores["mean"].value == 10.0
    assert third.scores["reward"].detail == "reward has no value: Unlucky."


@pytest.mark.parametrize("details", [{}, {"truncated": True}])
def test_a_text_that_one_term_did_not_read_to_its_end_is_said_to_be_cut(scorers, details):
    judge = Judge("reward", [scorers["product"], scorers["mean"]], MEAN["reward"])
    scores = {"product": Score(30.0), "mean": Score(10.0, details)}
    combined = judge.score(Case("0", None, "abc"), scores)
    assert isinstance(combined, Score)
    assert combined.details.get("truncated", False) == bool(details)


async def test_an_item_that_is_wrong_gets_no_combination(pipeline, observer, png):
    items = [Item("0", "nowhere", "abc"), Item("1", EncodedImage(png(10)), "abc")]
    first, second = await scored(pipeline, ScoreRequest(items, combine=MEAN))
    assert isinstance(first, ItemFailure)
    assert isinstance(second.scores["reward"], Score)
    assert len(observer.combined_scores) == 1


@pytest.mark.parametrize(
    ("combine", "kind", "pointer"),
    [
        pytest.param({"mean": SUM["total"]}, InvalidFieldError, "/combine/mean", id="the name of a scorer"),
        pytest.param(
            {"r": Combination("sum", [Term("mean"), Term("none")])},
            UnknownScorerError,
            "/combine/r/terms/1/scorer",
            id="no such scorer",
        ),
    ],
)
async def test_a_combination_that_cannot_be_refuses_the_request(pipeline, png, combine, kind, pointer):
    items = [Item("0", EncodedImage(png(10)), "abc")]
    with pytest.raises(kind) as caught:
        await pipeline.score(ScoreRequest(items, combine=combine))
    assert caught.value.facts["errors"][0]["pointer"] == pointer


async def test_a_filter_judges_by_a_combination_after_what_is_cheaper(pipeline, scorers, png):
    items = [Item(str(i), EncodedImage(png(value)), "abc") for i, value in enumerate((4, 10, 20))]
    policy = [Threshold("total", min=45.0), Threshold("mean", min=5.0)]
    results = await judged(pipeline, policy, items)
    assert [(each.verdict, list(each.failed), set(each.scores)) for each in results] == [
        ("reject", ["mean"], {"mean"}),
        ("reject", ["total"], {"mean", "product", "total"}),
        ("accept", [], {"mean", "product", "total"}),
    ]
    explained = await judged(pipeline, policy, items, explain=True)
    assert list(explained[0].failed) == ["mean", "total"]
    assert explained[0].scores["total"].value == 10.0


async def test_an_item_whose_combination_has_no_value_is_not_judged(pipeline, png):
    items = [Item("0", EncodedImage(png(10)), "unlucky"), Item("1", EncodedImage(png(10)), None)]
    policy = [Threshold("total", min=0.0), Threshold("mean", min=5.0)]
    results = await judged(pipeline, policy, items)
    assert [type(each) for each in results] == [ItemFailure, ItemFailure]
    assert results[1].error.detail == "total has no value: product needs a text."
    policy = [Threshold("total", min=0.0), Threshold("mean", min=50.0)]
    results = await judged(pipeline, policy, items, explain=True)
    assert [each.verdict for each in results] == ["reject", "reject"]
    assert all(isinstance(each.scores["total"], PlumblineError) for each in results)


async def test_few_words_reject_before_a_combination_is_computed(pipeline, observer, png):
    items = [Item("0", EncodedImage(png(10)), "abc")]
    policy = [Threshold("total", min=0.0, min_words=2)]
    (result,) = await judged(pipeline, policy, items)
    assert (result.verdict, list(result.reasons)) == ("reject", ["total"])
    assert observer.combined_scores == []


async def test_a_filter_refuses_a_combination_that_judges_nothing(pipeline, png):
    policy = [Threshold("mean", min=0.0)]
    with pytest.raises(InvalidFieldError, match="No condition of the policy is on the combination total"):
        await filter_items(pipeline, FilterRequest(policy, [Item("0", EncodedImage(png(10)), "abc")], combine=SUM))


@pytest.mark.parametrize("scorer", ["total", None])
async def test_a_ranking_is_by_the_combination_that_it_names_or_the_only_one(pipeline, png, scorer):
    images = [EncodedImage(png(value)) for value in (10, 30, 20)]
    reply = await rank(pipeline, RankRequest([*images, EncodedImage(b"x")], ["abc"], scorer=scorer, combine=SUM))
    assert reply.scorer == "total"
    assert [(place.index, place.value) for place in reply.ranking] == [(1, 75.0), (2, 50.0), (0, 25.0)]
    assert list(reply.errors) == [3]
    assert reply.errors[3].detail.startswith("total has no value: ")


async def test_a_ranking_may_name_a_scorer_though_there_is_a_combination(pipeline, png):
    request = RankRequest([EncodedImage(png(10))], ["abc"], scorer="product", combine=SUM)
    assert [place.value for place in (await rank(pipeline, request)).ranking] == [30.0]


@pytest.mark.parametrize(
    ("scorer", "combine", "why"),
    [
        pytest.param(None, {**MEAN, **SUM}, "names none to rank by", id="several"),
        pytest.param("r", {"r": Combination("sum", [Term("mean")])}, "looks at the text", id="no text"),
    ],
)
async def test_a_ranking_by_what_cannot_rank_is_refused(pipeline, png, scorer, combine, why):
    with pytest.raises(InvalidFieldError, match=why):
        await rank(pipeline, RankRequest([EncodedImage(png(10))], ["abc"], scorer=scorer, combine=combine))
