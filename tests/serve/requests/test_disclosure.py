"""How much callers are shown: vectors by policy and scope, scores to so many decimals, decisions by exact ones."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import MissingScopeError
from plumbline_models.core.protocols import Score
from plumbline_models.decisions.conformal import Direction
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.edge.access.keys_file import KeyEntry, Scope
from plumbline_serve.messages import (
    EmbedRequest,
    EncodedImage,
    FilterRequest,
    GuardFlags,
    Item,
    ItemScores,
    ItemVerdict,
    Ranked,
    RankReply,
    RankRequest,
    ScoreReply,
    ScoreRequest,
    SelectReply,
    Threshold,
    Timing,
)
from plumbline_serve.messages.decisions import CalibrationRequest
from plumbline_serve.requests.disclosure import Disclosure
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import PrivacySettings

Policy = Literal["open", "rounded", "off"]
EMBED = EmbedRequest(texts=["a red circle"])


def caller(*scopes: Scope):
    return KeyEntry(name="a", hash=f"sha256:{'0' * 64}", scopes=scopes).caller


def shown(store: SecretStr | None = None, **privacy: object) -> AbstractAsyncContextManager[Assembly]:
    settings = Settings(backend="fake", scorers={"clipscore": {}}, privacy=PrivacySettings(**privacy))
    return assembled(settings if store is None else settings.model_copy(update={"store": store}))


async def vector(assembly: Assembly, *scopes: Scope) -> np.ndarray:
    (found,) = (await assembly.service.embed(EMBED, caller(*scopes))).vectors
    assert isinstance(found, np.ndarray)
    return found


async def test_vectors_are_rounded_but_for_keys_of_their_scope():
    async with shown(embeddings="rounded") as assembly:
        exact, coarse = await vector(assembly, "score", "embed"), await vector(assembly, "score")
    assert np.array_equal(coarse, np.round(exact, 3))
    assert not np.array_equal(coarse, exact)
    async with shown() as assembly:
        assert np.array_equal(await vector(assembly, "score"), exact)


async def test_where_they_are_off_only_keys_of_their_scope_get_any():
    async with shown(embeddings="off") as assembly:
        with pytest.raises(MissingScopeError, match="scope embed"):
            await vector(assembly, "score", "decide", "admin")
        with pytest.raises(MissingScopeError):
            await assembly.service.embed(EMBED)
        assert (await vector(assembly, "score", "embed")).size


async def test_scores_are_rounded_and_judged_as_they_are(png: Callable[..., bytes]):
    items = [Item("1", EncodedImage(png(9)), "a red circle")]
    async with shown() as exactly, shown(score_decimals=2) as coarsely:
        (exact,), (coarse,) = [(await each.service.score(ScoreRequest(items))).results for each in (exactly, coarsely)]
        assert isinstance(exact, ItemScores)
        assert isinstance(coarse, ItemScores)
        score, other = exact.scores["clipscore"], coarse.scores["clipscore"]
        assert isinstance(score, Score)
        assert isinstance(other, Score)
        assert (other.value, other.details["cosine"]) == (round(score.value, 2), round(score.details["cosine"], 2))
        assert other.value != score.value
        (place,) = (await coarsely.service.rank(RankRequest([items[0].image], ["a red circle"]))).ranking  # type: ignore[list-item]
        assert place.value == other.value
        between = (score.value + other.value) / 2
        policy = [Threshold("clipscore", min=between)]
        (judged,) = (await coarsely.service.filter(FilterRequest(policy, items))).results
        assert isinstance(judged, ItemVerdict)
        assert (judged.verdict == "accept") == (score.value >= between)


def test_nothing_beside_a_score_says_what_it_is_exactly():
    """Ratios of probabilities say how far scores are apart, and numbers of guards are cosines."""
    rounding, third = Disclosure(PrivacySettings(score_decimals=2)), 1 / 3
    timing = Timing(0.0, 0.0, 0.0, 0.0)
    ranked = rounding.of_scores(RankReply("a", [Ranked(0, third, probability=third), Ranked(1, third)], {}, timing))
    assert [(each.value, each.probability) for each in ranked.ranking] == [(0.33, 0.33), (0.33, None)]
    chosen = SelectReply(0, "a", [third, None], third, 5, None, {}, timing, probabilities=[third, None])
    selected = rounding.of_scores(chosen)
    assert (selected.values, selected.probabilities) == ([0.33, None], [0.33, None])
    assert selected.certified_gain == third  # of numbers that the caller knows
    flags = GuardFlags(None, third, None, "g1", explained={"drop": third})
    (result,) = rounding.of_scores(ScoreReply([ItemScores("1", {}, flags)], timing)).results
    assert isinstance(result, ItemScores)
    assert result.guards == GuardFlags(None, 0.33, None, "g1", explained={"drop": 0.33})


async def values_of(assembly: Assembly, items: list[Item]) -> list[float]:
    results = (await assembly.service.score(ScoreRequest(items, scorers=["clipscore"]))).results
    scores = [each.scores["clipscore"] for each in results if isinstance(each, ItemScores)]
    return [score.value for score in scores if isinstance(score, Score)]


@pytest.mark.parametrize("direction", ["keep_good", "reject_bad"])
async def test_a_calibration_holds_for_scores_as_they_were_shown_when_it_was_made(
    png: Callable[..., bytes], tmp_path: Path, direction: Direction
):
    """With 19 labels the threshold is the worst of good ones or the best of bad ones: all are kept, or none is."""
    items = [Item(str(level), EncodedImage(png(level)), "a red circle") for level in range(100)]
    store, policy = SecretStr(f"sqlite:///{tmp_path}/store.db"), [Threshold("clipscore", calibration="launch")]
    async with shown(store) as exactly, shown(store, score_decimals=1) as coarsely:
        pairs = zip(items, await values_of(exactly, items), await values_of(coarsely, items), strict=True)
        is_good = direction == "keep_good"
        moved = [(item, coarse) for item, exact, coarse in pairs if (coarse > exact if is_good else coarse < exact)]
        chosen, scores = [item for item, _ in moved[:19]], [coarse for _, coarse in moved[:19]]
        asked = CalibrationRequest("launch", "clipscore", 0.05, direction, scores, [is_good] * 19)
        assert (await coarsely.service.calibrate(asked)).num_used == 19
        for assembly in (coarsely, exactly):  # the settings may have changed since
            judged = (await assembly.service.filter(FilterRequest(policy, chosen))).results
            verdicts = [each.verdict for each in judged if isinstance(each, ItemVerdict)]
            assert verdicts == ["accept" if is_good else "reject"] * 19
