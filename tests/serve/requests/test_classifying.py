"""Few-shot classifiers over the embedded mini-clip: made, used as scorers by every request, refused where they must."""

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from plumbline_models.core.errors import (
    BoundToOtherError,
    ImageUndecodableError,
    InvalidFieldError,
    UnknownArtefactError,
    UnknownScorerError,
)
from plumbline_models.core.protocols import Score
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
    Term,
    Threshold,
)
from plumbline_serve.settings import Settings
from plumbline_training.evaluation.fields import render
from plumbline_training.sampling import sample_scene

SHOTS = 8
PROMPTS = {"striped": "an image", "plain": "a picture"}  # which say nothing


def scenes(seed: int, num: int) -> dict[str, list[EncodedImage]]:
    """Scenes of one striped object, and of one that is not."""
    found: dict[str, list[EncodedImage]] = {name: [] for name in PROMPTS}
    rng = np.random.default_rng(seed)
    while min(map(len, found.values())) < num:
        scene = sample_scene(rng)
        if len(scene.groups) > 1 or scene.groups[0].look.fill == "outlined":
            continue
        kind = "striped" if scene.groups[0].look.fill == "striped" else "plain"
        if len(found[kind]) < num:
            out = io.BytesIO()
            Image.fromarray(render(scene)).save(out, "PNG")
            found[kind].append(EncodedImage(out.getvalue()))
    return found


@pytest.fixture(scope="module")
def shown() -> dict[str, list[EncodedImage]]:
    return scenes(1, SHOTS)


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    settings = Settings(scorers={"clipscore": {}}, store=SecretStr(f"sqlite:///{tmp_path}/store.db"))
    async with assembled(settings) as each:
        yield each


@pytest.fixture
def request_of(shown: dict[str, list[EncodedImage]]) -> Callable[..., ClassifierRequest]:
    def make(**changes: object) -> ClassifierRequest:
        return replace(ClassifierRequest("striped", shown, PROMPTS), **changes)  # type: ignore[arg-type]

    return make


async def test_a_few_images_say_more_than_a_prompt_and_fresh_ones_agree(assembly, request_of):
    made = await assembly.service.classify(request_of())
    assert (made.name, made.scorer, list(made.classes), made.num_images) == (
        "striped", "clipscore", ["striped", "plain"], 2 * SHOTS,
    )  # fmt: skip
    assert made.mixing > 0
    assert made.accuracy_cv > made.accuracy_zero_shot
    fresh = scenes(2, 25)
    items = [Item(f"{kind} {i}", image, None) for kind, images in fresh.items() for i, image in enumerate(images)]
    reply = await assembly.service.score(ScoreRequest(items, scorers=["classifier:striped"]))
    right = 0
    for result in reply.results:
        assert isinstance(result, ItemScores)
        score = result.scores["classifier:striped"]
        assert isinstance(score, Score)
        assert sum(score.details["probabilities"].values()) == pytest.approx(1.0)
        assert score.value == score.details["probabilities"]["striped"]
        right += score.details["class"] == result.id.split()[0]
    assert right / len(items) > 0.7
    assert [each.name for each in await assembly.service.classifiers()] == ["striped"]


async def test_it_ranks_filters_and_combines_like_any_scorer(assembly, request_of, shown):
    await assembly.service.classify(request_of())
    pair = [shown["plain"][0], shown["striped"][0]]
    ranked = await assembly.service.rank(RankRequest(images=pair, texts=["any"], scorer="classifier:striped"))
    assert [each.index for each in ranked.ranking] == [1, 0]
    items = [Item(str(i), image, None) for i, image in enumerate(pair)]
    filtered = await assembly.service.filter(FilterRequest([Threshold("classifier:striped", min=0.5)], items))
    assert [each.verdict for each in filtered.results if isinstance(each, ItemVerdict)] == ["reject", "accept"]
    combine = {"both": Combination("sum", [Term("classifier:striped"), Term("clipscore")])}
    texts = [replace(item, text="a striped circle") for item in items]
    scored = await assembly.service.score(ScoreRequest(texts, scorers=["clipscore"], combine=combine))
    assert all(isinstance(each, ItemScores) and isinstance(each.scores["both"], Score) for each in scored.results)
    assert "classifier:striped" not in (await assembly.service.score(ScoreRequest(texts))).results[0].scores


async def test_a_name_that_is_not_kept_is_no_scorer(assembly, request_of, shown):
    item = Item("1", shown["plain"][0], None)
    with pytest.raises(UnknownScorerError, match="classifier:striped"):
        await assembly.service.score(ScoreRequest([item], scorers=["classifier:striped"]))
    await assembly.service.classify(request_of())
    await assembly.service.delete_classifier("striped")
    with pytest.raises(UnknownScorerError):
        await assembly.service.score(ScoreRequest([item], scorers=["classifier:striped"]))
    with pytest.raises(UnknownArtefactError):
        await assembly.service.delete_classifier("striped")


async def test_one_made_with_other_weights_is_refused_by_name(assembly, request_of, shown):
    await assembly.service.classify(request_of())
    kept = await assembly.store.get("classifier", "striped")
    item = Item("1", shown["plain"][0], None)
    for bound_to, said in (
        (replace(kept.bound_to, weights="0" * 64), "other weights of"),
        (replace(kept.bound_to, scorer="another/image"), "was made with another/image and not with"),
    ):
        await assembly.store.put(replace(kept, bound_to=bound_to, created=datetime.now(UTC)))
        with pytest.raises(BoundToOtherError, match=said):
            await assembly.service.score(ScoreRequest([item], scorers=["classifier:striped"]))


async def test_what_nothing_can_be_learnt_from_is_refused_and_says_where(assembly, request_of, shown):
    one = {"striped": shown["striped"][:1], "plain": shown["plain"]}
    with pytest.raises(InvalidFieldError, match="fewer than 2 images") as refused:
        await assembly.service.classify(request_of(classes=one))
    assert refused.value.facts["errors"] == [{"pointer": "/classes/striped", "detail": "must have at least 2 images"}]
    with pytest.raises(InvalidFieldError, match="different names"):
        await assembly.service.classify(request_of(prompts={"striped": "a", "plein": "b"}))
    same = {name: [images[0]] * 2 for name, images in shown.items()}
    with pytest.raises(InvalidFieldError, match="the same image"):
        await assembly.service.classify(request_of(classes=same))
    broken = {**shown, "plain": [*shown["plain"], EncodedImage(b"no image")]}
    with pytest.raises(ImageUndecodableError) as refused_image:
        await assembly.service.classify(request_of(classes=broken))
    assert refused_image.value.facts["errors"] == [{"pointer": f"/classes/plain/{SHOTS}", "detail": "cannot be used"}]
    assert await assembly.service.classifiers() == []
