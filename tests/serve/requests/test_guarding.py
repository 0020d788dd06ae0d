"""Guards over the embedded mini-clip: each attack is seen to succeed before it is asked whether it is found.

The attacks lie in `tests/golden/guards/attacks`; `loadtests/accuracy/attacks.py` made them. Images of a guard, of its
lines and of its false alarms are all different.
"""

import io
import json
from collections.abc import AsyncIterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr
from typer.testing import CliRunner

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.protocols import Score
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.cli.main import cli
from plumbline_serve.messages import EncodedImage, GuardFlags, GuardOptions, Item, ItemScores, ScoreRequest
from plumbline_serve.settings import Settings
from plumbline_training.evaluation.fields import render
from plumbline_training.sampling import sample_scene

ATTACKS = Path("tests/golden/guards/attacks")
TEXTS = json.loads((ATTACKS / "texts.json").read_text(encoding="utf-8"))
SIDE_PX = 96
GENUINE_POINT = 5  # percentile of genuine pairs: what a filter that keeps 95 % of them lets pass


@cache
def drawn(seed: int, num: int) -> Sequence[tuple[bytes, str]]:
    """Scenes of mini-clip's own size, and what they show."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(num):
        scene = sample_scene(rng)
        counts = {1: "a", 2: "two", 3: "three", 4: "four"}
        parts = [
            f"{counts[each.count]} {each.look.colour} {each.look.shape}{'s' if each.count > 1 else ''}"
            for each in scene.groups
        ]
        out = io.BytesIO()
        image = Image.fromarray(render(scene)).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        image.save(out, "PNG")
        found.append((out.getvalue(), " and ".join(parts)))
    return found


def attacked(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(ATTACKS.glob(f"{name}_*.png"))]


def flagged(flag: str, value: str, num: int) -> str:
    """A line of the metrics."""
    return f'plumbline_guard_flags_total{{flag="{flag}",value="{value}"}} {num}.0\n'


def settings_with(folder: Path) -> Settings:
    return Settings(scorers={"clipscore": {}}, store=SecretStr(f"sqlite:///{folder}/store.db"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store has a guard, built by the command."""
    folder = tmp_path_factory.mktemp("guards")
    images = folder / "images"
    images.mkdir()
    for index, (data, _) in enumerate(drawn(31, 280)):
        (images / f"{index}.png").write_bytes(data)
    (images / "notes.txt").write_text("no image", encoding="utf-8")
    texts, config = folder / "texts.txt", folder / "plumbline.yaml"
    texts.write_text("\n".join(TEXTS["anchors"]), encoding="utf-8")
    others = folder / "others.txt"
    others.write_text("\n".join(f"something of kind {number}" for number in range(40)), encoding="utf-8")
    config.write_text(f"scorers: {{clipscore: {{}}}}\nstore: sqlite:///{folder}/store.db\n", encoding="utf-8")
    ran = CliRunner().invoke(
        cli, ["guards", "build", str(images), "--texts", str(texts), "--others", str(others), "--config", str(config)]
    )
    assert ran.exit_code == 0, ran.output
    assert f"of 281 images and {len(TEXTS['anchors'])} texts" in ran.stdout
    return folder


@pytest.mark.parametrize("num_images", [0, 3])
def test_too_few_images_are_said(tmp_path: Path, num_images: int) -> None:
    images, texts, config = tmp_path / "images", tmp_path / "texts.txt", tmp_path / "plumbline.yaml"
    images.mkdir()
    (images / "notes.txt").write_text("no image", encoding="utf-8")
    for index, (data, _) in enumerate(drawn(31, num_images)):
        (images / f"{index}.png").write_bytes(data)
    texts.write_text("\n".join(TEXTS["anchors"]), encoding="utf-8")
    config.write_text(f"scorers: {{clipscore: {{}}}}\nstore: sqlite:///{tmp_path}/store.db\n", encoding="utf-8")
    ran = CliRunner().invoke(cli, ["guards", "build", str(images), "--texts", str(texts), "--config", str(config)])
    assert isinstance(ran.exception, InvalidFieldError)
    assert f"images are {num_images}; at least 198" in ran.exception.detail
    assert not (tmp_path / "store.db").exists()


@pytest.fixture
async def guarded(store: Path) -> AsyncIterator[Assembly]:
    async with assembled(settings_with(store)) as assembly:
        yield assembly


async def looked_at(
    assembly: Assembly, pairs: Sequence[tuple[bytes, str]], options: GuardOptions | None = None
) -> tuple[list[float], list[GuardFlags]]:
    """The cosine of each pair, and what guards say of it."""
    items = [Item(str(i), EncodedImage(image), text) for i, (image, text) in enumerate(pairs)]
    cosines, flags = [], []
    for first in range(0, len(items), 128):
        request = ScoreRequest(items[first : first + 128], scorers=["clipscore"], guards=options or GuardOptions())
        for result in (await assembly.service.score(request)).results:
            assert isinstance(result, ItemScores)
            score = result.scores["clipscore"]
            assert isinstance(score, Score)
            assert result.guards is not None
            cosines.append(score.details["cosine"])
            flags.append(result.guards)
    return cosines, flags


async def test_an_image_for_many_texts_passes_as_genuine_for_each_and_is_found(guarded):
    genuine, flags = await looked_at(guarded, drawn(32, 200))
    passing = np.percentile(genuine, GENUINE_POINT)
    pairs = [(image, text) for image, texts in zip(attacked("many"), TEXTS["many"], strict=True) for text in texts]
    fooled, found = await looked_at(guarded, pairs)
    per_image = np.reshape(fooled, (-1, len(TEXTS["many"][0]))).min(axis=1)
    assert np.mean(per_image > passing) > 0.7  # the attack succeeds: all of its texts at once
    assert np.mean([each.fooling_suspect for each in found]) >= 0.8
    assert np.mean([each.fooling_suspect for each in flags]) <= 0.03


async def test_an_image_for_texts_of_one_colour_passes_for_each_and_is_not_found(guarded):
    """The losing one: a guard finds what is near all texts, and this is near those of one kind, as real images are."""
    scenes = drawn(32, 200)
    genuine, _ = await looked_at(guarded, scenes)
    passing = np.percentile(genuine, GENUINE_POINT)
    assert all(len({text.split()[1] for text in texts}) == 1 for texts in TEXTS["alike"])
    pairs = [(image, text) for image, texts in zip(attacked("alike"), TEXTS["alike"], strict=True) for text in texts]
    fooled, found = await looked_at(guarded, pairs)
    num_texts = len(TEXTS["alike"][0])
    per_image = np.reshape(fooled, (-1, num_texts)).min(axis=1)
    assert np.mean(per_image > passing) > 0.7  # the attack succeeds: all of its texts at once
    real = [(scene, text) for (scene, _), texts in zip(scenes, TEXTS["alike"] * 3, strict=False) for text in texts]
    of_real, _ = await looked_at(guarded, real)
    assert np.mean(np.reshape(of_real, (-1, num_texts)).min(axis=1) > passing) < 0.1  # which no scene does by chance
    assert np.mean([each.fooling_suspect for each in found]) <= 0.2  # as docs/guards.md says


async def test_a_raised_score_passes_as_genuine_and_falls_in_views(guarded):
    views = GuardOptions(views=True)
    genuine, flags = await looked_at(guarded, drawn(33, 120), views)
    passing = np.percentile(genuine, GENUINE_POINT)
    raised, found = await looked_at(guarded, list(zip(attacked("raised"), TEXTS["one"], strict=True)), views)
    assert np.mean(np.asarray(raised) > passing) > 0.9  # the attack succeeds
    assert np.mean([each.adversarial_suspect for each in found]) >= 0.8
    num_suspect = sum(each.adversarial_suspect is True for each in [*flags, *found])
    assert flagged("adversarial_suspect", "true", num_suspect) in (await guarded.service.metrics()).decode()
    assert np.mean([each.adversarial_suspect for each in flags]) <= 0.05


async def test_an_attacker_who_knows_the_guard_passes(guarded):
    genuine, _ = await looked_at(guarded, drawn(32, 200))
    raised, found = await looked_at(guarded, list(zip(attacked("aware"), TEXTS["one"], strict=True)))
    assert np.mean(np.asarray(raised) > np.percentile(genuine, GENUINE_POINT)) > 0.9
    assert np.mean([each.fooling_suspect for each in found]) <= 0.2  # as docs/guards.md says


async def test_strangeness_is_a_share_of_real_images_and_small_networks_find_nothing_strange(guarded):
    _, usual = await looked_at(guarded, drawn(34, 60))
    found = [each.ood_score for each in usual if each.ood_score is not None]
    assert np.mean(found) == pytest.approx(0.5, abs=0.15)
    assert np.std(found) > 0.15
    rng, others = np.random.default_rng(0), []
    for _ in range(8):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)).save(out, "PNG")
        others.append((out.getvalue(), "a red ring"))
    _, noise = await looked_at(guarded, others)
    assert (
        np.mean([each.ood_score for each in noise if each.ood_score is not None]) < 0.95
    )  # mini-clip sees scenes alone


async def test_flags_are_the_same_alone_and_in_company_and_explain_themselves(guarded):
    pairs, options = drawn(35, 12), GuardOptions(views=True, explain=True)
    _, together = await looked_at(guarded, pairs, options)
    alone = [(await looked_at(guarded, [pair], options))[1][0] for pair in reversed(pairs)]
    assert alone[::-1] == together
    for each in together:
        numbers = each.explained
        is_over = numbers["anchor_mean"] > numbers["anchor_line"] or numbers["distance"] > numbers["distance_line"]
        assert each.fooling_suspect == is_over
        assert each.adversarial_suspect == (numbers["drop"] > numbers["drop_line"])
        assert 0 < numbers["max_softmax"] <= 1
        assert 0 <= numbers["positive_mass"] <= 1
        assert each.policy is not None
        assert each.policy.startswith("g1-")


async def test_without_an_artefact_nothing_is_said_and_without_a_text_no_view_is_compared(guarded, tmp_path):
    ((image, text),) = drawn(36, 1)
    options = GuardOptions(views=True)
    async with assembled(settings_with(tmp_path)) as bare:
        _, (flags,) = await looked_at(bare, [(image, text)], options)
        assert flagged("fooling_suspect", "null", 1) in (await bare.service.metrics()).decode()
    assert flags == GuardFlags(None, None, None, None)
    assert not (tmp_path / "store.db").exists()
    request = ScoreRequest([Item("1", EncodedImage(image), None)], scorers=["clipscore"], guards=options)
    (result,) = (await guarded.service.score(request)).results
    assert not isinstance(result, ItemScores)  # clipscore needs a text
    plain = ScoreRequest([Item("1", EncodedImage(image), text)], scorers=["clipscore"])
    (scored,) = (await guarded.service.score(plain)).results
    assert isinstance(scored, ItemScores)
    assert scored.guards is None
