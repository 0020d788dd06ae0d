"""The best of N, or one drawn by temperature, with what that is certain to gain."""

from collections import Counter
from typing import Any

import pytest

from plumbline_models.core.errors import ImageUndecodableError, InvalidFieldError
from plumbline_serve.messages import Combination, EncodedImage, SelectReply, SelectRequest, Term
from plumbline_serve.requests.selecting import certificate, select


@pytest.fixture
async def choose(open_pipeline, png):
    """Selects by the brightness of grey images, one for each value."""
    pipeline = await open_pipeline()

    async def call(*values: int, **fields: Any) -> SelectReply:
        images = [EncodedImage(png(value) if value >= 0 else b"no image") for value in values]
        return await select(pipeline, SelectRequest("abc", images, **{"scorer": "product"} | fields))

    return call


async def test_the_best_is_chosen_and_the_first_of_equals(choose) -> None:
    reply = await choose(10, 30, 20, 30)
    assert (reply.index, reply.scorer, reply.values) == (1, "product", [30.0, 90.0, 60.0, 90.0])
    assert (reply.certified_gain, reply.max_certified_n, reply.overoptimised) == (None, None, None)
    assert (reply.probabilities, reply.errors) == ((), {})


async def test_by_a_combination(choose) -> None:
    combine = {"reward": Combination("sum", [Term("product", -1.0)])}
    reply = await choose(10, 30, 20, scorer="reward", combine=combine)
    assert (reply.index, reply.scorer, reply.values) == (0, "reward", [-30.0, -90.0, -60.0])


async def test_by_a_scorer_that_looks_at_no_text(choose) -> None:
    reply = await choose(10, 30, 20, scorer="mean")
    assert (reply.index, reply.values) == (1, [10.0, 30.0, 20.0])


async def test_an_image_that_cannot_be_scored_is_not_chosen_and_does_not_count(choose) -> None:
    reply = await choose(10, -1, 20, 30, -1, correlation=0.5)
    assert (reply.index, reply.values) == (3, [30.0, None, 60.0, 90.0, None])
    assert {index: type(error) for index, error in reply.errors.items()} == dict.fromkeys((1, 4), ImageUndecodableError)
    assert reply.certified_gain == certificate(3, 0.5)[0]
    none = await choose(-1, correlation=0.5)
    assert (none.index, none.certified_gain, none.overoptimised) == (None, None, False)


async def test_eight_are_too_many_where_scores_say_half_of_what_people_want(choose) -> None:
    """The table of the reference: at r = 0.5 four are certified (+0.09) and eight are not (-0.28)."""
    four = await choose(*range(10, 14), correlation=0.5)
    eight = await choose(*range(10, 18), correlation=0.5)
    assert four.certified_gain == pytest.approx(0.09, abs=0.005)
    assert eight.certified_gain == pytest.approx(-0.28, abs=0.005)
    assert (four.overoptimised, eight.overoptimised) == (False, True)
    assert four.max_certified_n == eight.max_certified_n
    assert 4 <= (four.max_certified_n or 0) < 8


async def test_where_all_are_equal_the_score_chose_nothing_and_gains_nothing(choose) -> None:
    equal = await choose(*[20] * 8, correlation=0.5)
    assert (equal.index, equal.overoptimised) == (0, False)
    assert equal.certified_gain == pytest.approx(0.0, abs=1e-12)
    assert (await choose(*[20] * 7, 30, correlation=0.5)).overoptimised


async def test_the_lower_end_of_the_interval_is_used(choose) -> None:
    wide = await choose(1, 2, 3, 4, correlation=0.7, correlation_interval=(0.5, 0.8))
    assert wide.certified_gain == certificate(4, 0.5)[0]
    nothing = await choose(1, 2, 3, 4, correlation=0.2, correlation_interval=(-0.1, 0.5))
    assert (nothing.certified_gain, nothing.max_certified_n, nothing.overoptimised) == (None, 1, True)
    for interval in ((0.8, 0.9), (0.6, 0.4)):
        with pytest.raises(InvalidFieldError) as refused:
            await choose(1, correlation=0.5, correlation_interval=interval)
        errors: Any = refused.value.facts["errors"]
        assert errors[0]["pointer"] == "/correlation_interval"


async def test_a_draw_follows_the_softmax_and_repeats_with_its_seed(choose) -> None:
    drawn = [await choose(0, 1, -1, 2, temperature=3.0, correlation=0.9, seed=seed) for seed in range(60)]
    chances = [chance for chance in drawn[0].probabilities if chance is not None]
    assert chances == pytest.approx([0.0900, 0.2447, 0.6652], abs=1e-4)  # softmax of 0, 1, 2
    assert drawn[0].probabilities[2] is None
    counts = Counter(each.index for each in drawn)
    for index, chance in ((0, chances[0]), (1, chances[1]), (3, chances[2])):
        assert abs(counts[index] - 60 * chance) < 4 * (60 * chance * (1 - chance)) ** 0.5
    again = await choose(0, 1, -1, 2, temperature=3.0, seed=7)
    assert again.index == drawn[7].index
    assert {each.certified_gain for each in drawn} == {None}  # of a draw nothing is certified
    assert (await choose(0, 200, temperature=1e-9)).index == 1
