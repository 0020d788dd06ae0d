"""References by the service: of values and of what is live, bound to what is loaded, and drift beside them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import BoundToOtherError, InvalidFieldError, UnknownArtefactError, UnknownScorerError
from plumbline_models.images.image_statistics import ImageStatistics
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.messages.drift import ReferenceRequest
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import PrivacySettings

VALUES = [float(each) for each in np.random.default_rng(0).normal(0.7, 0.1, 2000)]


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    store = SecretStr(f"sqlite:///{tmp_path}/store.db")
    async with assembled(Settings(backend="fake", scorers={"clipscore": {}, "qualiclip": {}}, store=store)) as each:
        yield each


def give(assembly: Assembly, num: int, mean: float, brightness: float = 0.5) -> None:
    rng = np.random.default_rng(1)
    assert assembly.tools.windows is not None
    for value, bright in zip(rng.normal(mean, 0.1, num), rng.normal(brightness, 0.05, num), strict=True):
        assembly.tools.windows.scored("clipscore", float(value), ImageStatistics(float(bright), 0.1, 0.5))


async def test_scores_that_drift_are_seen_and_those_that_do_not_are_not(assembly):
    made = await assembly.service.refer(ReferenceRequest("clipscore", values=VALUES))
    assert (made.scorer, made.n, sum(made.counts), len(made.edges) + 1) == ("clipscore", 2000, 2000, len(made.counts))
    assert made.images == []
    give(assembly, 1000, 0.7)
    entry = (await assembly.service.drift()).scorers["clipscore"]
    assert (entry.m, entry.severity, entry.entropy) == (1000, "none", None)
    give(assembly, 1000, 0.8)
    reply = await assembly.service.drift()
    assert reply.scorers["clipscore"].severity == "high"
    assert list(reply.scorers["clipscore"].triggered) == ["score"]
    assert reply.errors == {}
    assert "plumbline_drift_severity" in (await assembly.service.metrics()).decode()


async def test_what_is_live_becomes_a_reference_with_its_images(assembly):
    with pytest.raises(InvalidFieldError, match="has 0 scores of clipscore"):
        await assembly.service.refer(ReferenceRequest("clipscore", from_live=True))
    give(assembly, 500, 0.7)
    made = await assembly.service.refer(ReferenceRequest("clipscore", from_live=True))
    assert (made.n, made.images) == (500, ["brightness"])
    assert (await assembly.service.drift()).scorers["clipscore"].m == 0  # all that is counted went into it
    assert [each.scorer for each in await assembly.service.references()] == ["clipscore"]
    await assembly.service.delete_reference("clipscore")
    assert (await assembly.service.drift()).scorers == {}
    with pytest.raises(UnknownArtefactError):
        await assembly.service.delete_reference("clipscore")


async def test_a_reference_of_other_weights_is_refused_by_name_and_harms_no_other(assembly):
    await assembly.service.refer(ReferenceRequest("clipscore", values=VALUES))
    await assembly.service.refer(ReferenceRequest("qualiclip", values=VALUES))
    kept = await assembly.store.get("reference", "clipscore")
    other = replace(kept, bound_to=replace(kept.bound_to, weights="0" * 64), created=datetime.now(UTC))
    await assembly.store.put(other)
    reply = await assembly.service.drift()
    assert list(reply.scorers) == ["qualiclip"]
    assert isinstance(reply.errors["clipscore"], BoundToOtherError)
    await assembly.store.put(replace(other, name="gone"))
    assert isinstance((await assembly.service.drift()).errors["gone"], UnknownScorerError)


async def test_rounded_scores_are_held_against_rounded_ones(tmp_path):
    """A reference of scores as callers are shown them is of the law of those that are counted."""
    exact = Settings(backend="fake", scorers={"clipscore": {}}, store=SecretStr(f"sqlite:///{tmp_path}/store.db"))
    async with assembled(exact.model_copy(update={"privacy": PrivacySettings(score_decimals=1)})) as rounding:
        shown = [round(each, 1) for each in VALUES]
        made = await rounding.service.refer(ReferenceRequest("clipscore", values=shown))
        assert made.bound_to.conventions["privacy.score_decimals"] == "1"
        give(rounding, 1000, 0.7)
        entry = (await rounding.service.drift()).scorers["clipscore"]
        assert (entry.m, entry.severity) == (1000, "none")
        assert entry.p_value is not None
        assert entry.p_value > 0.01
    async with assembled(exact) as other:
        assert isinstance((await other.service.drift()).errors["clipscore"], BoundToOtherError)


@pytest.mark.parametrize("changes", [{"values": None}, {"from_live": True}, {"values": VALUES[:99]}])
async def test_a_reference_is_made_of_values_or_of_what_is_live_and_of_enough(assembly, changes):
    with pytest.raises(InvalidFieldError):
        await assembly.service.refer(replace(ReferenceRequest("clipscore", values=VALUES), **changes))
    with pytest.raises(UnknownScorerError):
        await assembly.service.refer(ReferenceRequest("nothing", values=VALUES))
