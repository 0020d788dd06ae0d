"""A threshold is found from labels, kept by name, and held against values: only of what it was made with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import (
    BoundToOtherError,
    InvalidFieldError,
    NoThresholdError,
    StoreUnavailableError,
    UnknownArtefactError,
    UnknownScorerError,
)
from plumbline_serve.messages import (
    Combination,
    EncodedImage,
    FilterRequest,
    Item,
    ItemFailure,
    ItemVerdict,
    ScoreRequest,
    Term,
    Threshold,
)
from plumbline_serve.messages.decisions import Calibration, CalibrationRequest
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.calibrating import MAX_GROUPS, Calibrations
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.settings import ImageSettings
from plumbline_serve.store import Store
from tests.serve.conftest import MeanScorer

GOOD = [float(value) for value in range(101, 121)]  # 20 of them
BAD = [float(value) for value in range(1, 21)]
BOUND = Bindings.of(ImageSettings())


def request(**otherwise: Any) -> CalibrationRequest:
    given: dict[str, Any] = {
        "name": "launch",
        "scorer": "mean",
        "alpha": 0.05,
        "direction": "keep_good",
        "scores": [*GOOD, *BAD],
        "labels": [True] * len(GOOD) + [False] * len(BAD),
    }
    return CalibrationRequest(**given | otherwise)


@pytest.fixture
def url(tmp_path: Path) -> SecretStr:
    return SecretStr(f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
def kept(url: SecretStr) -> Calibrations:
    return Calibrations(Store(url), BOUND)


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline()


def on_mean(name: str = "launch", scorer: str = "mean") -> list[Threshold]:
    return [Threshold(scorer, calibration=name)]


async def test_a_calibration_says_what_it_promises_and_what_it_is_bound_to(pipeline, kept) -> None:
    made = await kept.make(pipeline, request())
    assert (made.threshold, made.k, made.num_used) == (101.0, 20, 20)  # k = ceil(21 * 0.95)
    assert made.coverage == 20 / 21
    assert made.coverage_p05 is not None
    assert made.coverage_p05 == pytest.approx(0.05 ** (1 / 20))  # Beta(20, 1)
    assert (made.scorer, made.alpha, made.direction, made.confidence) == ("mean", 0.05, "keep_good", None)
    assert made.bound_to.conventions == {
        "value": "mean",
        "images.exif_orientation": "apply",
        "images.alpha": "white",
    }
    assert await kept.entries() == [made]
    assert await kept.entry("launch") == made


async def test_another_replica_has_the_same_calibration(pipeline, kept, url) -> None:
    made = await kept.make(pipeline, request(groups=["a", "b"] * 20, confidence=0.5))
    assert await Calibrations(Store(url), BOUND).entry("launch") == made


@pytest.mark.parametrize(
    ("direction", "accepted"),
    [("keep_good", [101, 255]), ("reject_bad", [21, 100, 101, 255])],
)
async def test_a_filter_keeps_what_the_calibration_says(pipeline, kept, png, direction, accepted) -> None:
    await kept.make(pipeline, request(direction=direction))
    values = [1, 20, 21, 100, 101, 255]  # ties count against the caller: 101 is kept, 20 is not
    items = [Item(str(value), EncodedImage(png(value)), None) for value in values]
    reply = await filter_items(pipeline, FilterRequest(on_mean(), items), calibrations=kept)
    assert [int(each.id) for each in reply.results if isinstance(each, ItemVerdict) and each.verdict == "accept"] == (
        accepted
    )
    assert all(each.failed == ["mean"] for each in reply.results if isinstance(each, ItemVerdict) and each.failed)


async def test_bounds_and_calibrations_on_one_scorer_must_all_hold(pipeline, kept, png) -> None:
    await kept.make(pipeline, request())
    items = [Item(str(value), EncodedImage(png(value)), None) for value in (100, 150, 250)]
    policy = [*on_mean(), Threshold("mean", max=200.0)]
    verdicts = (await filter_items(pipeline, FilterRequest(policy, items), calibrations=kept)).results
    assert [(each.verdict, list(each.failed)) for each in verdicts if isinstance(each, ItemVerdict)] == [
        ("reject", ["mean"]),
        ("accept", []),
        ("reject", ["mean"]),
    ]


async def test_each_group_has_its_threshold_and_no_group_that_of_all(pipeline, kept, png) -> None:
    scores = [*GOOD, *BAD]
    made = await kept.make(pipeline, request(labels=[True] * 40, groups=["high"] * 20 + ["low"] * 20, scores=scores))
    assert {name: each.threshold for name, each in made.groups.items()} == {"high": 101.0, "low": 1.0}
    assert made.threshold == 2.0
    items = [
        Item("in", EncodedImage(png(50)), None, group="low"),
        Item("out", EncodedImage(png(50)), None, group="high"),
        Item("all", EncodedImage(png(50)), None),
        Item("unknown", EncodedImage(png(50)), None, group="middle"),
    ]
    results = (await filter_items(pipeline, FilterRequest(on_mean(), items), calibrations=kept)).results
    assert [each.verdict for each in results if isinstance(each, ItemVerdict)] == ["accept", "reject", "accept"]
    [unknown] = [each for each in results if isinstance(each, ItemFailure)]
    assert unknown.id == "unknown"
    assert isinstance(unknown.error, InvalidFieldError)
    assert unknown.error.detail == "The calibration launch has no group 'middle'."


async def test_a_group_that_has_too_few_labels_fails_its_items_alone(pipeline, kept, png) -> None:
    made = await kept.make(pipeline, request(labels=[True] * 40, groups=["many"] * 30 + ["few"] * 10))
    assert made.groups["few"].threshold is None
    items = [Item(name, EncodedImage(png(200)), None, group=name) for name in ("many", "few")]
    many, few = (await filter_items(pipeline, FilterRequest(on_mean(), items), calibrations=kept)).results
    assert isinstance(many, ItemVerdict)
    assert isinstance(few, ItemFailure)
    assert isinstance(few.error, NoThresholdError)


async def test_eighteen_labels_are_too_few_for_five_in_a_hundred(pipeline, kept, png) -> None:
    made = await kept.make(pipeline, request(scores=GOOD[:18], labels=[True] * 18))
    assert (made.threshold, made.coverage, made.coverage_p05) == (None, None, None)
    assert made.detail == "There are 18 scores of good ones; at least 19 are needed."
    asked = FilterRequest(on_mean(), [Item("a", EncodedImage(png(200)), None)])
    with pytest.raises(NoThresholdError, match=r"launch has no threshold\. There are 18"):
        await filter_items(pipeline, asked, calibrations=kept)
    assert (await kept.make(pipeline, request(scores=GOOD[:19], labels=[True] * 19))).threshold == 101.0
    [verdict] = (await filter_items(pipeline, asked, calibrations=kept)).results  # made anew, it is used at once
    assert isinstance(verdict, ItemVerdict)


class DarknessScorer(MeanScorer):
    """Lower for darker images, and lower is better."""

    info = replace(MeanScorer.info, name="darkness", higher_is_better=False)


async def test_where_lower_is_better_what_is_below_is_kept(open_pipeline, scorers, kept, png) -> None:
    scorers["darkness"] = DarknessScorer()
    pipeline = await open_pipeline()
    made = await kept.make(pipeline, request(scorer="darkness", scores=BAD, labels=[True] * 20))
    assert made.threshold == 20.0
    items = [Item(str(value), EncodedImage(png(value)), None) for value in (20, 21)]
    policy = on_mean(scorer="darkness")
    below, above = (await filter_items(pipeline, FilterRequest(policy, items), calibrations=kept)).results
    assert isinstance(below, ItemVerdict)
    assert isinstance(above, ItemVerdict)
    assert (below.verdict, above.verdict) == ("accept", "reject")


async def refused(pipeline, calibrations: Calibrations, policy: list[Threshold], kind: type, **more: Any) -> Any:
    asked = FilterRequest(policy, [Item("a", None, "a text")], **more)
    with pytest.raises(kind) as caught:
        await filter_items(pipeline, asked, calibrations=calibrations)
    return caught.value


async def test_a_calibration_is_refused_by_name_with_what_it_was_not_made_with(pipeline, kept, url) -> None:
    await kept.make(pipeline, request())
    other = await refused(pipeline, kept, on_mean(scorer="product"), BoundToOtherError)
    assert other.detail == "The calibration launch was made with mean and not with product; make it again."
    conventions = Calibrations(Store(url), Bindings.of(ImageSettings(alpha="drop")))
    changed = await refused(pipeline, conventions, on_mean(), BoundToOtherError)
    assert "another setting of mean (images.alpha: white then, drop now); make it again." in changed.detail
    combined = {"both": Combination("sum", [Term("mean")])}
    mixed = await refused(pipeline, kept, on_mean(scorer="both"), BoundToOtherError, combine=combined)
    assert "made with mean and not with both" in mixed.detail


async def test_a_name_that_is_not_kept_is_refused_with_its_place(pipeline, kept) -> None:
    unknown = await refused(pipeline, kept, [Threshold("mean", min=0.0), *on_mean("lunch")], UnknownArtefactError)
    assert unknown.detail == "There is no calibration 'lunch' here."
    assert unknown.facts["errors"] == [{"pointer": "/policy/all/1/calibration", "detail": "is not kept"}]


async def test_what_cannot_be_calibrated_is_refused_with_its_place(pipeline, kept) -> None:
    with pytest.raises(UnknownScorerError):
        await kept.make(pipeline, request(scorer="other"))
    with pytest.raises(InvalidFieldError, match="labels has 1 entries for 40 scores"):
        await kept.make(pipeline, request(labels=[True]))
    with pytest.raises(InvalidFieldError, match=f"more than {MAX_GROUPS} groups"):
        await kept.make(pipeline, request(groups=[str(index) for index in range(MAX_GROUPS + 1)]))
    assert await kept.entries() == []


async def test_a_calibration_of_an_older_release_is_used(pipeline, kept, url, png) -> None:
    """They were kept without decimals and combinations."""
    made = await kept.make(pipeline, request())
    store = Store(url)
    artefact = await store.get("calibration", "launch")
    older = {name: each for name, each in artefact.document.items() if name not in {"decimals", "combine"}}
    await store.put(replace(artefact, document=older))
    kept = Calibrations(store, BOUND)
    assert await kept.entries() == [made]
    items = [Item(str(value), EncodedImage(png(value)), None) for value in (100, 101)]
    results = (await filter_items(pipeline, FilterRequest(on_mean(), items), calibrations=kept)).results
    assert [each.verdict for each in results if isinstance(each, ItemVerdict)] == ["reject", "accept"]


async def test_a_deleted_calibration_is_gone(pipeline, kept) -> None:
    await kept.make(pipeline, request())
    await kept.delete("launch")
    with pytest.raises(UnknownArtefactError):
        await kept.delete("launch")
    await refused(pipeline, kept, on_mean(), UnknownArtefactError)


async def test_a_store_that_fails_leaves_scores_and_bounds_alone(pipeline, tmp_path, png) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    broken = Calibrations(Store(SecretStr(f"sqlite:///{tmp_path}/file/store.db")), BOUND)
    with pytest.raises(StoreUnavailableError):
        await broken.make(pipeline, request())
    item = Item("a", EncodedImage(png(200)), None)
    reply = await filter_items(pipeline, FilterRequest([Threshold("mean", min=1.0)], [item]), calibrations=broken)
    assert isinstance(reply.results[0], ItemVerdict)
    assert (await pipeline.score(ScoreRequest([item], scorers=["mean"]))).results[0].id == "a"


async def test_a_calibration_is_kept_with_every_digit(pipeline, kept, url) -> None:
    scores = [index / 7 for index in range(20)]
    made: Calibration = await kept.make(pipeline, request(scores=scores, labels=[True] * 20, direction="keep_good"))
    read = await Calibrations(Store(url), BOUND).entry("launch")
    assert (read.threshold, read.coverage_p05) == (made.threshold, made.coverage_p05)
