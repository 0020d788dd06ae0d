"""The embedded scorers know their small world: scored as the service scores, on scenes that nothing was tuned on."""

import asyncio
import io
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plumbline_models
from plumbline_models.core.protocols import Score
from plumbline_serve.assembly import assembled
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreRequest
from plumbline_serve.settings import Settings
from plumbline_training.distortions import DISTORTIONS, distort
from plumbline_training.evaluation.pairs import draw_pairs
from plumbline_training.foils import KINDS
from plumbline_training.photographs import photograph

EMBEDDED = Path(plumbline_models.__file__).parent / "embedded"
MOST_BYTES = 16 * 2**20
FRESH_SEED = 31_337
NUM_PAIRS = 8 * len(KINDS)
ALL = ("clipscore", "fclipscore", "vqascore", "qualiclip")


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Scores `(image, text)` pairs with the embedded scorers, the reference backend, and no configuration."""
    settings = Settings(cache_dir=tmp_path_factory.mktemp("engines"), backend="torch", precision="fp32")
    scorers = make_scorers(settings)

    async def run(asked, chosen):
        items = [Item(str(k), encoded(image), text) for k, (image, text) in enumerate(asked)]
        async with assembled(settings, scorers) as assembly:
            reply = await assembly.service.score(ScoreRequest(items, scorers=chosen))
        return [result.scores for result in reply.results if isinstance(result, ItemScores)]

    return lambda asked, chosen: asyncio.run(run(asked, chosen))


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return EncodedImage(buffer.getvalue())


@pytest.fixture(scope="module")
def scored(ask):
    """Fresh pairs with the scores of their true captions and of their foils."""
    pairs = list(draw_pairs(NUM_PAIRS, FRESH_SEED))
    chosen = ("clipscore", "fclipscore", "vqascore")
    true = ask([(pair.image, pair.truth) for pair in pairs], chosen)
    false = ask([(pair.image, pair.foil) for pair in pairs], chosen)
    return list(zip(pairs, true, false, strict=True))


def test_all_embedded_weights_are_small_enough_to_live_in_the_repository():
    assert sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file()) <= MOST_BYTES


def test_with_no_configuration_all_four_scorers_answer(ask):
    (scores,) = ask([(photograph("coffee.png")[:200, :300], "a red circle")], None)
    assert set(scores) == set(ALL)
    assert all(isinstance(score, Score) for score in scores.values())


@pytest.mark.parametrize(("scorer", "least"), [("clipscore", 0.75), ("vqascore", 0.75)])
def test_true_captions_score_above_their_foils(scorer, least, scored):
    right = [true[scorer].value > false[scorer].value for _, true, false in scored]
    assert np.mean(right) >= least


def test_one_half_parts_what_is_true_from_what_is_not(scored):
    right = [(true["vqascore"].value >= 0.5, false["vqascore"].value < 0.5) for _, true, false in scored]
    assert np.mean(right) >= 0.7


def test_captions_mean_the_same_in_upper_case_and_with_a_full_stop(ask, scored):
    pairs = [pair for pair, _, _ in scored if pair.kind == "colour"]
    shouted = ask([(pair.image, pair.truth.rstrip(".").upper()) for pair in pairs], ("vqascore",))
    stopped = ask([(pair.image, pair.truth.rstrip(".").lower() + ".") for pair in pairs], ("vqascore",))
    plain = ask([(pair.image, pair.truth.rstrip(".").lower()) for pair in pairs], ("vqascore",))
    assert [one["vqascore"].value for one in shouted] == [one["vqascore"].value for one in plain]
    gaps = [abs(a["vqascore"].value - b["vqascore"].value) for a, b in zip(stopped, plain, strict=True)]
    assert np.median(gaps) < 0.1


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_quality_falls_as_distortion_grows(kind, ask):
    rng = np.random.default_rng(FRESH_SEED)
    drops = defaultdict(list)
    for name in ("coffee.png", "camera.png", "rocket.jpg"):
        whole = photograph(name)
        crop = whole[40:240, 60:300]
        levels = [distort(crop, kind, float(level), rng) for level in (0, 3, 5)]
        clean, middle, worst = (scores["qualiclip"].value for scores in ask([(one, None) for one in levels], None))
        drops["middle"].append(clean - middle)
        drops["worst"].append(middle - worst)
    assert np.mean(drops["middle"]) > 0
    assert np.mean(drops["worst"]) > 0
