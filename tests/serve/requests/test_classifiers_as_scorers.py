"""Classifiers where scorers are listed and named: beside another process, without a store, in every kind of request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import BoundToOtherError, InvalidFieldError, UnknownScorerError
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.messages import (
    ClassifierRequest,
    Combination,
    EncodedImage,
    FilterRequest,
    Item,
    ItemScores,
    ItemVerdict,
    RankRequest,
    ScoreRequest,
    SelectRequest,
    Term,
    Threshold,
)
from plumbline_serve.messages.audits import AuditRequest
from plumbline_serve.messages.decisions import CalibrationRequest
from plumbline_serve.messages.drift import ReferenceRequest
from plumbline_serve.settings import Settings
from plumbline_serve.store.store import LOOK_AGAIN_S
from tests.serve.conftest import grey_png

SIZE_PX = 64
BRIGHT, DARK = (240, 220, 200), (20, 40, 60)
CLASSES = {
    name: [EncodedImage(grey_png(level, SIZE_PX)) for level in levels] for name, levels in (("a", BRIGHT), ("b", DARK))
}
SHOWN = [EncodedImage(grey_png(level, SIZE_PX)) for level in (30, 230)]
NAME = "classifier:bright"


@pytest.fixture
async def open_service(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Assembly]]]:
    """Opens one more process's service over the same store."""
    async with AsyncExitStack() as stack:

        async def open_one(**settings: object) -> Assembly:
            known = {
                "scorers": {"clipscore": {}, "qualiclip": {}},
                "store": SecretStr(f"sqlite:///{tmp_path}/store.db"),
            }
            return await stack.enter_async_context(assembled(Settings.model_validate({**known, **settings})))

        yield open_one


@pytest.fixture
async def assembly(open_service) -> Assembly:
    found: Assembly = await open_service()
    await found.service.classify(ClassifierRequest("bright", CLASSES, {"a": "white", "b": "black"}))
    return found


async def test_it_is_listed_after_what_is_loaded_with_what_it_computes_with(assembly):
    loaded = await assembly.service.scorers()
    listed = await assembly.service.named_scorers()
    assert listed[:-1] == loaded
    entry, clipscore = listed[-1], loaded[0]
    assert (entry.id, entry.low, entry.high, entry.higher_is_better) == (NAME, 0.0, 1.0, True)
    assert (entry.needs, entry.needs_text, entry.encoders) == (["image"], False, clipscore.encoders[:1])
    assert (entry.precision, entry.backend, entry.licence) == (
        clipscore.precision,
        clipscore.backend,
        clipscore.licence,
    )
    assert (entry.paper, entry.conventions["class"], entry.demo) == ("arXiv:2402.04087", "a", True)
    assert "class a" in entry.summary
    await assembly.service.delete_classifier("bright")
    assert await assembly.service.named_scorers() == loaded


async def test_another_process_lists_and_uses_one_within_two_seconds(assembly, open_service):
    """After `LOOK_AGAIN_S`, a second, the next look at the store must show it."""
    other = await open_service()
    assert NAME in [each.id for each in await other.service.named_scorers()]
    await assembly.service.classify(ClassifierRequest("second", CLASSES, {"a": "white", "b": "black"}))
    await assembly.service.delete_classifier("bright")
    await asyncio.sleep(LOOK_AGAIN_S)
    assert [each.id for each in await other.service.named_scorers()][2:] == ["classifier:second"]
    scored = await other.service.score(ScoreRequest([Item("1", SHOWN[0], None)], scorers=["classifier:second"]))
    assert isinstance(scored.results[0], ItemScores)


async def test_one_of_other_weights_is_left_out(assembly):
    kept = await assembly.store.get("classifier", "bright")
    other = replace(kept, bound_to=replace(kept.bound_to, weights="0" * 64), created=datetime.now(UTC))
    await assembly.store.put(other)
    assert await assembly.service.named_scorers() == await assembly.service.scorers()
    assert [each.name for each in await assembly.service.classifiers()] == ["bright"]


async def test_without_its_store_a_service_lists_what_is_loaded(open_service, tmp_path):
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    broken = await open_service(store=f"sqlite:///{tmp_path}/broken.db")
    assert await broken.service.named_scorers() == await broken.service.scorers() != []


@pytest.fixture
def use(assembly):
    """Names the classifier in a request of a kind, and says what came of it, for a dark image and a bright one."""
    items = [Item(str(i), image, None) for i, image in enumerate(SHOWN)]
    combine = {"both": Combination("sum", [Term(NAME, 2.0), Term("qualiclip", 0.0)])}
    bright = [Threshold(NAME, min=0.5)]

    async def rank() -> object:
        return [each.index for each in (await assembly.service.rank(RankRequest(SHOWN, ["any"], NAME))).ranking]

    async def rank_combined() -> object:
        # by a combination of which one term reads the text
        terms = {"both": Combination("sum", [Term(NAME, 1.0), Term("clipscore", 0.0)])}
        request = RankRequest(SHOWN, ["any"], combine=terms)
        return [each.index for each in (await assembly.service.rank(request)).ranking]

    async def select() -> object:
        reply = await assembly.service.select(SelectRequest("any", SHOWN, scorer=NAME, correlation=0.9))
        assert reply.certified_gain is not None
        return [reply.index]

    async def select_combined() -> object:
        reply = await assembly.service.select(SelectRequest("any", SHOWN, combine=combine))
        return [reply.index]

    async def verdicts(policy: list[Threshold], **options: object) -> list[int]:
        reply = await assembly.service.filter(FilterRequest(policy, items, **options))  # type: ignore[arg-type]
        return [i for i, each in enumerate(reply.results) if isinstance(each, ItemVerdict) and each.verdict == "accept"]

    async def filter_calibrated() -> object:
        scores, labels = [0.05 * i for i in range(1, 20)], [True] * 19
        request = CalibrationRequest("cut", NAME, 0.5, "keep_good", scores=scores, labels=labels)
        made = await assembly.service.calibrate(request)
        assert made.bound_to.conventions["class"] == "a"
        return await verdicts([Threshold(NAME, calibration="cut")])

    async def filter_calibrated_together() -> object:
        scores, labels = [0.1 * i for i in range(1, 20)], [True] * 19
        await assembly.service.calibrate(
            CalibrationRequest("sum", None, 0.5, "keep_good", scores=scores, labels=labels, combine=combine)
        )
        return await verdicts([Threshold("both", calibration="sum")])

    return {
        "rank": rank,
        "rank by a combination": rank_combined,
        "select": select,
        "select by a combination": select_combined,
        "filter": lambda: verdicts(bright),
        "filter beside others": lambda: verdicts([Threshold("qualiclip", min=-1), *bright], explain=True),
        "filter by a combination": lambda: verdicts([Threshold("both", min=1.0)], combine=combine),
        "filter by a calibration": filter_calibrated,
        "filter by a calibration of a combination": filter_calibrated_together,
    }


EXPECTED: dict[str, list[int]] = {
    "rank": [1, 0],
    "rank by a combination": [1, 0],
    "select": [1],
    "select by a combination": [1],
    "filter": [1],
    "filter beside others": [1],
    "filter by a combination": [1],
    "filter by a calibration": [1],
    "filter by a calibration of a combination": [1],
}


@pytest.mark.parametrize("kind", EXPECTED)
async def test_it_is_named_like_any_scorer(use, kind: str):
    assert await use[kind]() == EXPECTED[kind]


async def test_it_ranks_no_texts_and_a_calibration_of_one_before_is_refused(assembly):
    with pytest.raises(InvalidFieldError, match="does not look at the text"):
        await assembly.service.rank(RankRequest([SHOWN[0]], ["one", "two"], NAME))
    with pytest.raises(UnknownScorerError):
        await assembly.service.select(SelectRequest("any", SHOWN, scorer="classifier:none"))
    cut = CalibrationRequest("cut", NAME, 0.5, "keep_good", scores=[0.5] * 9, labels=[True] * 9)
    await assembly.service.calibrate(cut)
    await assembly.service.classify(ClassifierRequest("bright", CLASSES, {"a": "white", "b": "black"}))
    items = [Item("1", SHOWN[0], None)]
    with pytest.raises(BoundToOtherError, match=r"another setting of classifier:bright \(made: "):
        await assembly.service.filter(FilterRequest([Threshold(NAME, calibration="cut")], items))


async def test_scores_of_one_that_was_made_again_are_not_held_against_those_before(assembly):
    async def give() -> None:
        for level in range(0, 240, 2):
            item = Item("1", EncodedImage(grey_png(level, SIZE_PX)), None)
            await assembly.service.score(ScoreRequest([item], scorers=[NAME]))

    await give()
    assert (await assembly.service.refer(ReferenceRequest(NAME, from_live=True))).n == 120
    await assembly.service.classify(ClassifierRequest("bright", CLASSES, {"a": "grey", "b": "red"}))
    assert isinstance((await assembly.service.drift()).errors[NAME], BoundToOtherError)
    with pytest.raises(InvalidFieldError, match="has 0 scores"):
        await assembly.service.refer(ReferenceRequest(NAME, from_live=True))
    await assembly.service.refer(ReferenceRequest(NAME, values=[i / 200 for i in range(150)]))
    assert (await assembly.service.drift()).scorers[NAME].m == 0
    await give()
    assert (await assembly.service.drift()).scorers[NAME].m == 120


async def test_its_drift_is_watched(assembly):
    values = [i / 200 for i in range(150)]
    await assembly.service.refer(ReferenceRequest(NAME, values=values, from_live=False))
    await assembly.service.score(ScoreRequest([Item("1", SHOWN[0], None)], scorers=[NAME]))
    found = await assembly.service.drift()
    assert found.errors == {}
    assert (found.scorers[NAME].n, found.scorers[NAME].m) == (150, 1)
    await assembly.service.delete_classifier("bright")
    gone = await assembly.service.drift()
    assert isinstance(gone.errors[NAME], UnknownScorerError)


async def test_an_audit_stays_allowed_where_a_classifier_is_named(open_service):
    audited = await open_service(edge={"audits": True})
    await audited.service.classify(ClassifierRequest("bright", CLASSES, {"a": "white", "b": "black"}))
    request = AuditRequest(SHOWN, groups=["a", "b"], prompts=["white", "black"], scorer=NAME)
    with pytest.raises(UnknownScorerError, match="has no encoders of images and texts"):
        await audited.service.measure(request)
