"""The embedded CLIP: it is small, loads as any open_clip checkpoint does, and knows colours."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import plumbline_models
from plumbline_training.evaluation.pairs import Pair, draw_pairs

FOLDER = Path(plumbline_models.__file__).parent / "embedded" / "mini-clip"
MOST_BYTES = 10 * 2**20
NUM_PAIRS = 450
FRESH_SEED = 20_261
LEAST_RIGHT = 0.90  # of 45 colour foils; measured 0.98 of 112. The card says what it does not know yet

Loaded: TypeAlias = tuple[open_clip.CLIP, Callable[[Image.Image], torch.Tensor]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    home = tmp_path_factory.mktemp("mini-clip")
    shutil.copy(FOLDER / "config.json", home / "open_clip_config.json")
    shutil.copy(FOLDER / "weights.safetensors", home / "open_clip_model.safetensors")
    clip, _, config = open_clip.create_model_and_transforms(f"local-dir:{home}")
    return clip.eval(), config


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    every = draw_pairs(NUM_PAIRS, FRESH_SEED)
    return [pair for pair in every if pair.kind == "colour"]


def test_the_weights_are_small_enough_to_live_in_the_repository() -> None:
    assert (FOLDER / "weights.safetensors").stat().st_size <= MOST_BYTES


def test_open_clip_squashes_the_image_so_that_no_object_is_cut_off(loaded: Loaded) -> None:
    _, config = loaded
    wide = np.zeros((40, 80, 3), dtype=np.uint8)
    wide[:, 70:] = 255  # a centre crop would lose this edge
    resized = config(Image.fromarray(wide))
    side = resized.shape[-1]
    assert resized.shape == (3, side, side)
    assert resized[:, :, -1].min() > resized[:, :, 0].max()


def test_true_captions_score_above_colour_foils(loaded: Loaded, pairs: list[Pair]) -> None:
    clip, config = loaded
    tokenizer = open_clip.SimpleTokenizer()
    with torch.no_grad():
        images = clip.encode_image(torch.stack([config(Image.fromarray(p.image)) for p in pairs]), normalize=True)
        true = clip.encode_text(tokenizer([p.truth for p in pairs]), normalize=True)
        false = clip.encode_text(tokenizer([p.foil for p in pairs]), normalize=True)
    right = ((images * true).sum(dim=1) > (images * false).sum(dim=1)).float().mean()
    assert float(right) >= LEAST_RIGHT


def test_a_word_that_scenes_never_use_changes_no_more_than_any_other_such_word(
    loaded: Loaded,
) -> None:
    clip, _ = loaded
    texts = open_clip.SimpleTokenizer()(["a red dog", "a red cat"])
    with torch.no_grad():
        dog, cat = clip.encode_text(texts, normalize=True)
    assert torch.equal(dog, cat)
