"""`deterministic`: each number of a reply, bit for bit, whatever else is computed, and whatever is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from loadtests.goldens.preference.clips import build_hpsv2
from loadtests.goldens.preference.image_reward import build_image_reward
from plumbline_models.core.protocols import Score
from plumbline_models.core.questions import Question
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.messages import (
    EmbedRequest,
    EncodedImage,
    FilterRequest,
    Item,
    ItemScores,
    ItemVerdict,
    RankRequest,
    ScoreRequest,
    Threshold,
)
from plumbline_serve.messages.sets import DiversityRequest
from plumbline_serve.settings import Settings
from tests.services import encoded, picture

WORDS = ("red", "circle", "beside", "blue", "square", "on", "the", "green", "table", "near", "one", "small", "cat")
OF_CLIP = ("clipscore", "fclipscore", "refclipscore", "phrase_clipscore", "image_similarity")
ARCH = "ViT-S-32-alt"
SMOLVLM = Path(__file__).parents[2] / "golden" / "vqascore" / "smolvlm_tiny"
NOTHING_KEPT = {"image_bytes": 0, "text_bytes": 0, "pair_bytes": 0, "caption_bytes": 0}
BACKENDS = ["openvino", "torch"]
NETWORKS = ["embedded", "open_clip", "causal", "preference"]


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Any]]:
    """Scorers of small networks of each family, by name; all but the embedded ones of random weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(open_clip.create_model(ARCH, pretrained=None).state_dict(), folder / "clip.pt")
    clip, causal = {"arch": ARCH, "checkpoint": str(folder / "clip.pt")}, {"family": "smolvlm", "model": str(SMOLVLM)}
    preference = {"hpsv2": build_hpsv2, "imagereward": build_image_reward}
    for name in preference:
        (folder / name).mkdir()
    return {
        "embedded": {name: {} for name in (*OF_CLIP, "qualiclip", "vqascore", "questions")},
        "open_clip": dict.fromkeys(("clipscore", "refclipscore"), clip),
        "causal": dict.fromkeys(("vqascore", "questions"), causal),
        "preference": {name: {"model": str(build(folder / name))} for name, build in preference.items()},
    }


@dataclass(frozen=True)
class Services:
    """Two of the same engines."""

    forgetful: Assembly
    """Keeps no encodings."""
    keeping: Assembly


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=[(backend, each) for backend in BACKENDS for each in NETWORKS], ids="-".join)
def services(
    request: pytest.FixtureRequest, runner: asyncio.Runner, sections: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    backend, network = request.param
    cache = tmp_path_factory.mktemp("cache")
    settings: dict[str, Any] = {"backend": backend, "precision": "fp32", "scorers": sections[network]}
    settings |= {"cache_dir": cache, "store": f"sqlite:///{cache}/store.db", "limits": {"max_wait_ms": 1e6}}
    stack = AsyncExitStack()
    opened = [assembled(Settings(**each)) for each in (settings | {"caches": NOTHING_KEPT}, settings)]
    yield Services(*(runner.run(stack.enter_async_context(each)) for each in opened))
    runner.run(stack.aclose())


def item(seed: int) -> Item:
    """One that every scorer finds what it needs in; each with a text of another length."""
    word = WORDS[seed % len(WORDS)]
    return Item(
        id=str(seed),
        image=EncodedImage(encoded(picture(seed, (96 + 8 * (seed % 3), 80)), "PNG")),
        text=" ".join(WORDS[: 3 + seed % 13]),
        references=(f"a picture of {word}", "a cat"),
        reference_image=EncodedImage(encoded(picture(seed + 500), "PNG")),
        phrases=("a cat", word),
        questions=(Question(f"Is there a {word}?"), Question("Is it red?")),
    )


ITEM, *OTHERS = (item(seed) for seed in range(8))


def numbers(result: Any) -> dict[str, Any]:
    """All that a result says of its item, to be compared bit for bit."""
    assert isinstance(result, ItemScores | ItemVerdict)
    scores = {name: score for name, score in result.scores.items() if isinstance(score, Score)}
    assert scores.keys() == result.scores.keys()
    return {name: (score.value, score.details) for name, score in scores.items()}


async def scored(assembly: Assembly, items: Sequence[Item], *, deterministic: bool = True) -> dict[str, Any]:
    """What is said of `ITEM` among others."""
    reply = await assembly.service.score(ScoreRequest(items, deterministic=deterministic))
    return numbers(next(each for each in reply.results if each.id == ITEM.id))


@asynccontextmanager
async def beside_others(assembly: Assembly) -> AsyncIterator[None]:
    """While 16 other requests are under way, which share the item's text."""

    async def ask(number: int) -> None:
        for seed in range(100 + 2 * number, 102 + 2 * number):
            await scored(assembly, [ITEM, item(seed)], deterministic=False)

    asking = [asyncio.create_task(ask(number)) for number in range(16)]
    yield
    await asyncio.gather(*asking)


def test_an_item_gets_the_same_bits_whatever_else_is_computed(services: Services, runner: asyncio.Runner) -> None:
    async def check() -> None:
        assembly = services.forgetful
        alone = await scored(assembly, [ITEM])
        assert await scored(assembly, [ITEM, *OTHERS]) == alone
        assert await scored(assembly, [*OTHERS, ITEM]) == alone
        async with beside_others(assembly):
            assert await scored(assembly, [ITEM]) == alone
            assert await scored(assembly, [*OTHERS, ITEM]) == alone
        assert await scored(assembly, [ITEM]) == alone

    runner.run(check())


def test_an_item_gets_the_same_bits_whatever_is_kept(services: Services, runner: asyncio.Runner) -> None:
    async def check() -> None:
        alone = await scored(services.forgetful, [ITEM])
        assembly = services.keeping
        await scored(assembly, [*OTHERS, ITEM], deterministic=False)
        assert await scored(assembly, [*OTHERS[:3], ITEM]) == alone
        async with beside_others(assembly):
            assert await scored(assembly, [*OTHERS, ITEM]) == alone
        assert await scored(assembly, [ITEM]) == alone

    runner.run(check())


def test_all_requests_have_the_same_bits_beside_others(services: Services, runner: asyncio.Runner) -> None:
    async def ask(assembly: Assembly) -> list[Any]:
        service = assembly.service
        images: list[Any] = [each.image for each in (ITEM, *OTHERS)]
        name = next(iter(assembly.scorers))
        texts: list[Any] = [each.text for each in (ITEM, *OTHERS)]
        filtered = await service.filter(
            FilterRequest([Threshold(name, min=-1e9)], [ITEM, *OTHERS], explain=True, deterministic=True)
        )
        found: list[Any] = [numbers(each) for each in filtered.results]
        if {"image", "text"} == assembly.scorers[name].info.needs:
            by_text = await service.rank(RankRequest(images, texts[:1], scorer=name, deterministic=True))
            by_image = await service.rank(RankRequest(images[:1], texts, scorer=name, deterministic=True))
            found += [by_text.ranking, by_image.ranking]
        if assembly.scorers[name].text is not None:
            for asked in (EmbedRequest(images, deterministic=True), EmbedRequest(texts=texts, deterministic=True)):
                embedded = await service.embed(asked)
                found.append([np.asarray(each).tobytes() for each in embedded.vectors])
            diversity: Any = await service.measure(DiversityRequest(images=images, texts=texts, deterministic=True))
            found += [diversity.vendi, diversity.mean_pairwise, diversity.sce]
        return found

    async def check() -> None:
        expected = await ask(services.forgetful)
        for assembly in (services.forgetful, services.keeping):
            async with beside_others(assembly):
                assert await ask(assembly) == expected

    runner.run(check())
