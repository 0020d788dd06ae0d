"""A threshold of a combination: of its own value, and only of what it was made with, term by term."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import BoundToOtherError, InvalidFieldError, UnknownArtefactError, UnknownScorerError
from plumbline_models.core.protocols import EncoderInfo, Score
from plumbline_serve.messages import Combination, EncodedImage, FilterRequest, Item, ItemVerdict, Term, Threshold
from plumbline_serve.messages.decisions import CalibrationRequest
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.calibrating import Calibrations
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.settings import ImageSettings
from plumbline_serve.store import Store
from tests.serve.conftest import ArithmeticEncoder, MeanScorer

# Of an image of grey level v and the text "ab": v - 0.25 * 2 v = v / 2.
REWARD = Combination("sum", [Term("mean"), Term("product", weight=-0.25)])
POLICY = [Threshold("reward", calibration="launch")]


def request(combination: Combination = REWARD, name: str = "reward", **otherwise: Any) -> CalibrationRequest:
    given: dict[str, Any] = {
        "name": "launch",
        "scorer": None,
        "alpha": 0.05,
        "direction": "keep_good",
        "scores": [float(value) for value in range(50, 70)],
        "labels": [True] * 20,
        "combine": {name: combination},
    }
    return CalibrationRequest(**given | otherwise)


def calibrations(folder: Path, images: ImageSettings | None = None) -> Calibrations:
    return Calibrations(Store(SecretStr(f"sqlite:///{folder}/store.db")), Bindings.of(images or ImageSettings()))


@pytest.fixture
def kept(tmp_path: Path) -> Calibrations:
    return calibrations(tmp_path)


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline()


async def filtered(pipeline, kept: Calibrations, items: list[Item], combination: Combination = REWARD) -> list[Any]:
    asked = FilterRequest(POLICY, items, combine={"reward": combination})
    return list((await filter_items(pipeline, asked, calibrations=kept)).results)


async def refusal(pipeline, kept: Calibrations, combination: Combination = REWARD) -> str:
    with pytest.raises(BoundToOtherError) as caught:
        await filtered(pipeline, kept, [Item("a", None, "ab")], combination)
    return caught.value.detail


async def test_what_is_cut_is_the_value_of_the_combination(pipeline, kept, png) -> None:
    made = await kept.make(pipeline, request())
    assert (made.threshold, made.k, made.scorer) == (50.0, 20, "reward")
    items = [Item(str(level), EncodedImage(png(level)), "ab") for level in (98, 100, 102)]
    found = [each for each in await filtered(pipeline, kept, items) if isinstance(each, ItemVerdict)]
    values = [score.value for each in found if isinstance(score := each.scores["reward"], Score)]
    assert values == [49.0, 50.0, 51.0]
    assert [(each.verdict, each.failed) for each in found] == [("reject", ["reward"]), ("accept", []), ("accept", [])]


async def test_another_replica_has_the_same_calibration_with_its_combination(pipeline, kept, tmp_path) -> None:
    combination = Combination("harmonic", [Term("mean", 1 / 3, 0.0, 255.0), Term("product", 2.0, 0.0, 1e-3)])
    made = await kept.make(pipeline, request(combination))
    assert made.combine == {"reward": combination}
    assert await calibrations(tmp_path).entry("launch") == made


async def test_a_filter_names_it_and_need_not_say_what_it_is_made_of(pipeline, kept, png) -> None:
    await kept.make(pipeline, request())
    items = [Item(str(level), EncodedImage(png(level)), "ab") for level in (98, 100)]
    policy = [*POLICY, Threshold("reward", max=1e3), Threshold("mean", min=0.0)]
    asked = await kept.complete(pipeline, FilterRequest(policy, items))
    assert asked.combine == {"reward": REWARD}
    found = (await filter_items(pipeline, asked, calibrations=kept)).results
    assert [each.verdict for each in found if isinstance(each, ItemVerdict)] == ["reject", "accept"]


async def test_what_a_filter_says_itself_is_what_counts(pipeline, kept) -> None:
    await kept.make(pipeline, request())
    own = {"reward": Combination("sum", [Term("mean")])}
    assert (await kept.complete(pipeline, FilterRequest(POLICY, [], combine=own))).combine == own
    other = [Threshold("rewards", calibration="launch")]
    assert (await kept.complete(pipeline, FilterRequest(other, []))).combine == {}
    with pytest.raises(UnknownArtefactError, match="no calibration 'lunch'"):
        await kept.complete(pipeline, FilterRequest([Threshold("reward", calibration="lunch")], []))


async def test_groups_and_the_other_direction_are_those_of_scorers(pipeline, kept, png) -> None:
    made = await kept.make(pipeline, request(direction="reject_bad", labels=[False] * 20, groups=["a"] * 20))
    assert made.threshold == made.groups["a"].threshold
    assert made.threshold is not None
    assert made.threshold > 69.0  # of a combination higher is better: what ties with the worst bad one is rejected
    items = [Item(str(level), EncodedImage(png(level)), "ab", group="a") for level in (138, 140)]
    found = [each for each in await filtered(pipeline, kept, items) if isinstance(each, ItemVerdict)]
    assert [each.verdict for each in found] == ["reject", "accept"]


async def test_terms_may_stand_in_any_order(pipeline, kept, png) -> None:
    await kept.make(pipeline, request())
    turned = Combination("sum", list(reversed(REWARD.terms)))
    (found,) = await filtered(pipeline, kept, [Item("a", EncodedImage(png(100)), "ab")], turned)
    assert isinstance(found, ItemVerdict)
    assert found.verdict == "accept"


MEAN, PRODUCT = REWARD.terms
OTHERS = {
    "a weight": Combination("sum", [MEAN, replace(PRODUCT, weight=-0.5)]),
    "a bound": Combination("sum", [replace(MEAN, min=0.0, max=255.0), PRODUCT]),
    "a term more": Combination("sum", [MEAN]),
    "a method": Combination("harmonic", [MEAN, PRODUCT]),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_another_combination_of_the_same_name_is_refused(pipeline, kept, other) -> None:
    await kept.make(pipeline, request())
    said = "The calibration launch was made with another combination by the name of reward; make it again."
    assert await refusal(pipeline, kept, other) == said


async def test_another_name_is_refused(pipeline, kept) -> None:
    await kept.make(pipeline, request(name="quality"))
    assert "was made with quality and not with reward" in await refusal(pipeline, kept)


async def test_other_conventions_of_a_term_are_refused_by_name(
    pipeline, kept, tmp_path, scorers, open_pipeline
) -> None:
    made = await kept.make(pipeline, request())
    assert made.bound_to.conventions["mean.images.alpha"] == "white"
    assert made.bound_to.conventions["product.value"] == "product"
    others = calibrations(tmp_path, ImageSettings(alpha="drop"))
    changed = "mean.images.alpha: white then, drop now; product.images.alpha: white then, drop now"
    assert f"another setting of reward ({changed})" in await refusal(pipeline, others)
    scorers["product"].conventions = {"value": "quotient"}
    of_product = await refusal(await open_pipeline(), kept)
    assert "another setting of reward (product.value: product then, quotient now)" in of_product


class RetrainedEncoder(ArithmeticEncoder):
    """Has other weights."""

    def info(self) -> EncoderInfo:
        return replace(super().info(), sha256="f00")


async def test_other_weights_of_a_term_are_refused_by_its_name(pipeline, kept, scorers, open_pipeline) -> None:
    await kept.make(pipeline, request())
    scorers["mean"] = MeanScorer()
    scorers["mean"].image = RetrainedEncoder("image", "retrained/image")
    assert "was made with other weights of mean than" in await refusal(await open_pipeline(), kept)


async def test_a_calibration_of_a_scorer_and_of_a_combination_are_not_taken_for_each_other(pipeline, kept) -> None:
    await kept.make(pipeline, request())
    asked = FilterRequest([Threshold("mean", calibration="launch")], [Item("a", None, "ab")])
    with pytest.raises(BoundToOtherError, match="made with reward and not with mean"):
        await filter_items(pipeline, asked, calibrations=kept)


async def test_a_combination_that_cannot_be_is_refused_with_its_place(pipeline, kept) -> None:
    with pytest.raises(UnknownScorerError) as unknown:
        await kept.make(pipeline, request(Combination("sum", [Term("mean"), Term("other")])))
    (fault,) = cast("list[dict[str, str]]", unknown.value.facts["errors"])
    assert fault["pointer"] == "/combine/reward/terms/1/scorer"
    with pytest.raises(InvalidFieldError, match="cannot be called mean"):
        await kept.make(pipeline, request(name="mean"))
    assert await kept.entries() == []
